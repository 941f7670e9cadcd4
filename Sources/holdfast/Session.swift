import ArgumentParser
import Foundation
import IPAMAPI
import IPAMModel
import Program

/// The server's calls as the commands use them.
protocol ServiceCalls: IPAMCalls, PoolCalls {
    associatedtype Events: AsyncSequence where Events.Element == BindingEvent
    func watch(_ filter: BindingFilter) -> Events
}

extension IPAMClient: ServiceCalls {}

/// One command's run: whom it asks, and where and how it answers.
struct Session {
    var calls: any ServiceCalls
    var timeout: Duration
    var format: OutputFormat
    /// For ages.
    var now: Timestamp
    var write: (String) -> Void

    /// `document` for programs, `text` for people.
    func show(_ document: Document, as text: () -> String) {
        switch format {
        case .table: write(text())
        case .json: write(document.json)
        case .yaml: write(document.yaml)
        }
    }
}

/// A command that talks to a server.
protocol ClientCommand: AsyncParsableCommand {
    var options: ClientOptions { get }
    func run(_ session: Session) async throws
}

extension ClientCommand {
    func run() async throws {
        do {
            let client = try IPAMClient(server: options.server, credentials: try options.tls.credentials)
            let now = Timestamp(nanoseconds: Int64(Date().timeIntervalSince1970 * 1_000_000_000))
            let session = Session(
                calls: client, timeout: options.timeout ?? .seconds(10), format: options.output ?? .table, now: now,
                write: { text in
                    print(text)
                    fflush(nil)
                })
            try await run(session)
            await client.close()
        } catch let error as IPAMError {
            throw Failure(error, server: options.server)
        }
    }
}
