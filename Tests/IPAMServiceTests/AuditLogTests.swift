import Foundation
import IPAMModel
import Ledger
import Synchronization
import Testing

@testable import IPAMService

/// What an audit log has written, whole.
private final class Written: Sendable {
    private let bytes = Mutex<[UInt8]>([])
    func append(_ more: [UInt8]) { bytes.withLock { $0 += more } }
    var lines: [String] {
        let text = String(decoding: bytes.withLock(\.self), as: UTF8.self)
        #expect(text.isEmpty || text.hasSuffix("\n"))
        return text.split(separator: "\n", omittingEmptySubsequences: false).dropLast().map(String.init)
    }
}

@Suite(.timeLimit(.minutes(1))) struct AuditLogTests {
    private let written = Written()
    private let time = Timestamp(seconds: 1_800_000_000)

    private func log(isJSON: Bool) -> AuditLog {
        AuditLog(isJSON: isJSON) { [written] in written.append($0) }
    }

    private func deed(_ caller: String, _ pool: String = "vms") -> AuditLog.Deed {
        AuditLog.Deed(caller: caller, traceID: "", command: .deletePool(name: pool), changes: [])
    }

    private func object(_ line: String) throws -> [String: String] {
        try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: String], "\(line)")
    }

    private static let strange = "a\"\n\u{1}b\\c\u{1f}é"

    @Test func `in JSON a caller's name comes back as it is, whatever is in it`() throws {
        let log = log(isJSON: true)
        log.tell([deed(Self.strange), deed("b")], at: time)
        log.close()
        #expect(written.lines.count == 2)
        let line = try object(try #require(written.lines.first))
        #expect(line["caller"] == Self.strange && line["message"] == "pool deleted" && line["pool"] == "vms")
        #expect(line["time"] == time.description && line["logger"] == "audit" && line["level"] == "info")
    }

    @Test func `in text a caller's name begins no line and ends no field`() throws {
        let log = log(isJSON: false)
        log.tell([deed(Self.strange)], at: time)
        log.close()
        #expect(
            written.lines == [
                #"\#(time) info audit: pool deleted caller=a\"\u000a\u0001b\\c\u001fé pool=vms"#
            ])
    }

    @Test(arguments: [false, true])
    func `what it could not keep is counted where it is missing`(isJSON: Bool) throws {
        let stalled = DispatchSemaphore(value: 0)
        let hasStalled = Atomic(false)
        let log = AuditLog(isJSON: isJSON) { [written] in
            if !hasStalled.exchange(true, ordering: .relaxed) { stalled.wait() }
            written.append($0)
        }
        let (batches, each) = (100, 512)
        for number in 0..<batches {
            log.tell(Array(repeating: deed("caller-\(number)"), count: each), at: time)
        }
        stalled.signal()
        log.close()
        let lines = written.lines
        let told = lines.filter { $0.contains("pool deleted") }
        let gaps = lines.filter { $0.contains("changes are missing here") }
        #expect(told.count + gaps.count == lines.count && told.count.isMultiple(of: each))
        let lost = try gaps.map { gap in
            let count = isJSON ? try object(gap)["changes"] : gap.split(separator: "changes=").last.map(String.init)
            return try #require(count.flatMap(Int.init), "\(gap)")
        }
        #expect(lost.reduce(0, +) == batches * each - AuditLog.mostWaiting)
        #expect(told.count == AuditLog.mostWaiting)
    }
}
