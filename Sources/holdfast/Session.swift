import ArgumentParser
import Foundation
import IPAMAPI
import IPAMModel
import Logging
import Program

/// The server's calls as the commands use them.
protocol ServiceCalls: IPAMCalls, PoolCalls, HistoryCalls, MaintenanceCalls {
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
    var write: (String) throws -> Void
    /// Before a call is repeated that something else holds up.
    var pause = Duration.seconds(1)

    /// `document` for programs, `text` for people.
    func show(_ document: Document, as text: () -> String) throws {
        try write(format.text(of: document, as: text))
    }
}

extension Session {
    /// Repeats a call for as long as only nodes' copies are in its way, which ends by itself within the pool's reuse delay.
    func pastCopies<Value>(_ call: () async throws -> Value) async throws -> Value {
        var isTold = false
        while true {
            do {
                return try await call()
            } catch let error as IPAMError where error.reason == .copiesOutstanding {
                if !isTold { StandardError.write(Array("waiting: \(error.message)\n".utf8)) }
                isTold = true
                try await Task.sleep(for: pause)
            }
        }
    }
}

/// A command that talks to a server.
protocol ClientCommand: AsyncParsableCommand {
    var options: ClientOptions { get }
    /// Else no file of its credentials is read.
    var asksServer: Bool { get }
    func run(_ session: Session) async throws
}

extension Logger {
    /// What a command logs goes to standard error.
    static let ofCommand = Logger(label: "holdfast") { TextLogHandler(.standardError(label: $0)) }
}

extension ClientCommand {
    var asksServer: Bool { true }

    func run() async throws {
        do {
            let client = asksServer ? try client : try IPAMClient(server: options.server)
            let now = Timestamp(nanoseconds: Int64(Date().timeIntervalSince1970 * 1_000_000_000))
            let session = Session(
                calls: client, timeout: options.timeout ?? .seconds(10), format: options.output, now: now,
                write: StandardOutput.write)
            try await run(session)
            await client.close()
        } catch let error as IPAMError {
            throw Failure(error, server: options.server, speaksTLS: options.credentials.tlsCa != nil)
        }
    }

    /// Throws `Failure` where a file of its credentials cannot be read or used.
    private var client: IPAMClient {
        get throws {
            let current = try options.credentials.current(log: .ofCommand)
            return try IPAMClient(
                server: options.server, currentCredentials: { current.credentials }, currentToken: { current.token })
        }
    }
}
