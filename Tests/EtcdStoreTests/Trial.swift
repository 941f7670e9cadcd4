import Glibc
import IPAMModel
import Testing

/// Servers under a load whose history is checked, while something happens to them.
struct Trial {
    private static let seed = UInt64.random(in: 0 ... .max)

    let cluster: EtcdCluster
    let servers: Servers

    init(_ cluster: EtcdCluster, _ servers: Servers) {
        self.cluster = cluster
        self.servers = servers
    }

    func underLoad(_ fault: (Load) async throws -> Void) async throws {
        try await servers.waitUntilServing()
        let load = try Load(servers.list, seed: Self.seed)
        let outcome: Result<Void, any Error>
        do {
            try waitForAnswers(200, load)
            try await fault(load)
            try waitForAnswers(200, load)
            outcome = .success(())
        } catch { outcome = .failure(error) }
        let faults = try await load.finish(servers: servers.list)
        #expect(faults == [], "seed \(Self.seed); \(servers.logs)")
        try outcome.get()
    }

    /// As many more answers: the servers serve.
    func waitForAnswers(_ count: Int, _ load: Load) throws {
        let goal = load.answers + count
        guard eventually({ load.answers >= goal }) else { throw Failure("calls are not answered: \(servers.logs)") }
    }

    /// Until nobody is answered any more.
    func waitForSilence(_ load: Load) throws {
        let isSilent = eventually {
            let answers = load.answers
            return stays(for: .seconds(3)) { load.answers == answers }
        }
        if !isSilent { throw Failure("calls are still answered: \(servers.logs)") }
    }

    /// How long it takes from now to an answer to a call that was made from now on.
    func pause(_ load: Load, after fault: () throws -> Void) throws -> Duration {
        let start = ContinuousClock.now
        try fault()
        // What was said before still arrives.
        usleep(50_000)
        try waitForAnswers(1, load)
        return .now - start
    }
}

/// The answer to a call of those that every client repeats: what etcd did not take in time, or a change of leaders in the midst of
/// it, is no answer.
func insist<Value>(
    _ call: () async throws(IPAMError) -> Value
) async throws(IPAMError) -> Value {
    let deadline = ContinuousClock.now + .seconds(60)
    while true {
        do throws(IPAMError) {
            return try await call()
        } catch {
            guard error.code == .unavailable, .now < deadline else { throw error }
        }
    }
}
