import Addresses
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

    @Test func `a line's verb is what came to an end`() throws {
        var ledger = Ledger()
        let prefix = PoolPrefix(prefix: try #require(IPPrefix("10.16.0.0/24")))
        _ = try ledger.apply(.createPool(Pool(name: "vm-net", prefixes: [prefix], isDefault: true)), at: time)
        let vm = Owner(kind: .virtualMachine, namespace: "default", name: "vm", uid: "u-1", network: "vm-net/eth0")
        let new = Owner(kind: .virtualMachine, namespace: "default", name: "vm", uid: "u-2", network: "vm-net/eth0")
        func pod(_ name: String) -> Attachment {
            Attachment(node: "node-\(name)", pod: name, podUID: name, containerID: name)
        }
        func release(_ name: String) -> Command { .release(.attachment(pod(name).id, owner: vm, network: vm.network)) }
        let address = try #require(IPAddress("10.16.0.99"))
        let mac = try #require(MACAddress("02:00:00:00:00:01"))
        let prepare = TransferRequest(owner: vm, migrationUID: "m-1", phase: .prepare(target: pod("b")))
        let log = log(isJSON: false)
        for command in [
            .allocate(AllocateRequest(owner: vm, attachment: pod("a"))), .transfer(prepare),
            // The COMMIT was lost.
            release("a"), release("b"),
            .allocate(AllocateRequest(owner: vm, addresses: [address])),
            .allocate(AllocateRequest(owner: vm, mac: mac)),
            .allocate(AllocateRequest(owner: new)), .release(.binding(new)),
        ] as [Command] {
            let start = ledger.pending.count
            _ = try ledger.apply(command, at: time)
            log.tell(
                [AuditLog.Deed(caller: "a", traceID: "", command: command, changes: ledger.pending[start...])], at: time
            )
        }
        log.close()
        let wanted = [
            ["allocated", "pod=a"], ["migration prepared", "target=node-b/b"], ["attached", "node=node-b pod=b"],
            ["detached", "pod=b"], ["readdressed", "addresses=10.16.0.99", "before=10.16.0.1"], ["changed"],
            ["transferred", "from=vm default/vm"], ["freed"],
        ]
        #expect(written.lines.count == wanted.count)
        for (line, words) in zip(written.lines, wanted) {
            #expect(line.contains("audit: \(words[0]) caller=") && words.allSatisfy(line.contains), "\(line)")
        }
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
