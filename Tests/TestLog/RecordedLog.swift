package import Logging
import Synchronization

/// What a test has logged, from a level up: each line's message and facts.
package final class RecordedLog: Sendable {
    private let level: Logger.Level
    private let recorded = Mutex<[String]>([])
    package var lines: [String] { recorded.withLock { $0 } }

    package init(_ level: Logger.Level = .warning) { self.level = level }

    package var logger: Logger { Logger(label: "test") { _ in Handler(log: self, logLevel: level) } }

    private struct Handler: LogHandler {
        let log: RecordedLog
        var logLevel: Logger.Level
        var metadata = Logger.Metadata()

        subscript(metadataKey key: String) -> Logger.MetadataValue? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            let facts = (event.metadata ?? [:]).sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
            log.recorded.withLock { $0.append("\(event.message)\(facts)") }
        }
    }
}
