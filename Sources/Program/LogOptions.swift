public import ArgumentParser
import CLinux
import Foundation
import Glibc
public import Logging
import Telemetry

/// `--log-level` and `--log-format`, the same for every program that runs on.
package struct LogOptions: ParsableArguments {
    package enum Format: String, ExpressibleByArgument, CaseIterable { case text, json }

    @Option(help: "trace, debug, info, notice, warning, error or critical.")
    package var logLevel = Logger.Level.info

    @Option(help: "text, or json with one object a line.")
    package var logFormat = Format.text

    package static let variables = ["log-level", "log-format"]

    package init() {}

    /// A logger that writes to standard error.
    package func logger(_ label: String) -> Logger {
        var logger = Logger(label: label) { label in
            switch logFormat {
            case .text: TextLogHandler(.standardError(label: label, metadataProvider: .trace))
            case .json: JSONLogHandler(metadataProvider: .trace)
            }
        }
        logger.logLevel = logLevel
        return logger
    }
}

package enum StandardError {
    /// What cannot be written is lost: a full disk, or a reader that has gone, ends no program.
    /// No line of another thread's gets into it: swift-log's text handler holds the same lock.
    @Sendable package static func write(_ bytes: [UInt8]) {
        lock_standard_error()
        defer { unlock_standard_error() }
        _ = writeAll(bytes, to: STDERR_FILENO)
    }
}

package enum StandardOutput {
    /// A line. Throws `Failure` where it cannot be written, as on a full disk; where its reader has gone, what says nothing.
    package static func write(_ line: String) throws {
        guard let failure = writeAll(Array((line + "\n").utf8), to: STDOUT_FILENO) else { return }
        if failure == EPIPE { throw ExitCode.failure }
        throw Failure("the output cannot be written: \(unsafe String(cString: strerror(failure)))")
    }
}

/// Returns the number of the error that kept it from going on, if one did.
private func writeAll(_ bytes: [UInt8], to descriptor: CInt) -> CInt? {
    var rest = bytes[...]
    while !rest.isEmpty {
        let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
        if count < 0, errno == EINTR { continue }
        if count <= 0 { return errno }
        rest = rest.dropFirst(count)
    }
    return nil
}

extension Logger.MetadataProvider {
    /// `trace_id`, in whatever is logged for a request.
    package static let trace = Logger.MetadataProvider {
        TraceContext.current.map { ["trace_id": "\($0.traceID)"] } ?? [:]
    }
}

extension Logger.Level: @retroactive ExpressibleByArgument {}

/// One JSON object a line: time, level, message, and the metadata's keys.
struct JSONLogHandler: LogHandler {
    var logLevel = Logger.Level.info
    var metadata = Logger.Metadata()
    var metadataProvider: Logger.MetadataProvider?

    init(metadataProvider: Logger.MetadataProvider? = nil) { self.metadataProvider = metadataProvider }

    subscript(metadataKey key: String) -> Logger.MetadataValue? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let provided = metadataProvider?.get() ?? [:]
        var record = metadata.merging(provided) { $1 }.merging(event.metadata ?? [:]) { $1 }.mapValues { "\($0)" }
        record["time"] = Date().formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
        record["level"] = event.level.rawValue
        record["message"] = "\(event.message)"
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let line = try? encoder.encode(record) else { return }
        StandardError.write(line + [UInt8(ascii: "\n")])
    }
}
