import ArgumentParser
import Foundation
import IPAMAPI
import IPAMModel
import IPAMService
import KubernetesAPI
import Lifecycle
import Logging
import Program

/// `--kubernetes` and what goes with it.
struct LifecycleOptions: ParsableArguments {
    @Flag(help: "Follow VMs, pods and migrations: free what deleted ones had, settle migrations that hang.")
    var kubernetes = false

    @OptionGroup var api: KubernetesOptions

    @Option(
        help: ArgumentHelp(
            """
            How long something must be missing from complete lists before its addresses are freed. Lists are compared \
            every five times as long.
            """, valueName: "duration"))
    var grace = "60s"

    static let variables = KubernetesOptions.variables + ["grace"]

    func validate() throws {
        _ = try pace
        if api.kubeconfig != nil, !kubernetes { throw ValidationError("--kubeconfig needs --kubernetes") }
    }

    private var pace: Lifecycle.Pace {
        get throws {
            do throws(IPAMError) {
                var pace = Lifecycle.Pace()
                pace.grace = .nanoseconds(try Rules.delay(grace, "--grace").nanoseconds)
                pace.interval = max(pace.grace * 5, .seconds(1))
                pace.migrationGrace = min(pace.grace, pace.migrationGrace)
                return pace
            } catch {
                throw ValidationError(error.message)
            }
        }
    }

    /// Who Events say they come from: a pod's name is its host's.
    private var instance: String { ProcessInfo.processInfo.hostName }

    /// Nil without `--kubernetes`. Throws `Failure`.
    func service(for server: IPAMServer, logger: Logger) throws -> LifecycleService? {
        guard kubernetes else { return nil }
        return LifecycleService(
            client: KubernetesClient(try api.configuration, log: logger), ipam: server.writer, instance: instance,
            leadership: server.leadership, pace: try pace, log: logger)
    }
}
