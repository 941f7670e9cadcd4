import Addresses
import ArgumentParser
import Foundation
import IPAMAPI
import IPAMModel
import Ledger
import LedgerStore
import Program
import Synchronization
import Testing

@testable import holdfast

@Suite struct `The history and backups on the command line` {
    private func entry(
        _ name: String, _ from: Int64, _ until: Int64?, node: String = "", end: HistoryEntry.End? = nil,
        revision: UInt64
    ) throws -> HistoryEntry {
        HistoryEntry(
            owner: Owner(
                kind: .virtualMachine, namespace: "default", name: name, uid: "uid-\(name)", network: "vm-net/eth0"),
            pool: "vm-net", addresses: [try #require(IPAddress("10.16.0.15"))], mac: MACAddress(bits: 0x02_0000_0015),
            node: node, pod: node.isEmpty ? "" : "virt-launcher-\(name)", since: Timestamp(seconds: from),
            until: until.map { Timestamp(seconds: $0) }, begunBy: "agent", endedBy: until == nil ? "" : "person",
            end: end, revision: revision)
    }

    private func calls() throws -> FakeCalls {
        FakeCalls(history: [
            try entry("two", 1_799_990_000, nil, node: "node-b", revision: 9),
            try entry("one", 1_799_900_000, 1_799_980_000, end: .freed, revision: 8),
            try entry("one", 1_799_800_000, 1_799_900_000, node: "node-a", end: .detached, revision: 7),
        ])
    }

    @Test(arguments: ["table", "json", "yaml"]) func `all of it is what the golden file has`(format: String)
        async throws
    {
        for line in [["history", "10.16.0.15"], ["history", "default/one", "--since", "2d"]] {
            let output = try await run(line + ["-o", format], on: try calls())
            let name = line.joined(separator: "-").replacing("/", with: "_") + ".\(format)"
            let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Golden/\(name)")
            if ProcessInfo.processInfo.environment["UPDATE_GOLDEN"] != nil { try Data(output.utf8).write(to: file) }
            #expect(output == (try String(contentsOf: file, encoding: .utf8)), "\(name)")
        }
    }

    @Test func `who had an address at a time is one line`() async throws {
        let calls = try calls()
        for (time, answer) in [
            (
                "2027-01-14T12:00:00Z",
                "10.16.0.15 at 2027-01-14T12:00:00Z: vm default/one (vm-net/eth0) with UID uid-one, no pod carried it, "
                    + "since 2027-01-14T04:13:20Z until 2027-01-15T02:26:40Z\n"
            ),
            (
                "1m",
                "10.16.0.15 at 2027-01-15T07:59:00Z: vm default/two (vm-net/eth0) with UID uid-two, in pod "
                    + "virt-launcher-two on node node-b, since 2027-01-15T05:13:20Z until now\n"
            ),
            (
                "2027-01-15T04:00:00Z",
                "nobody had 10.16.0.15 at 2027-01-15T04:00:00Z, as far as it is still known\n"
            ),
        ] {
            #expect(try await run(["history", "10.16.0.15", "--at", time], on: calls) == answer)
        }
    }

    @Test func `what is printed as a time is found at that time`() async throws {
        var new = try entry("new", 0, nil, revision: 9)
        new.since = Timestamp(nanoseconds: 1_799_990_000_123_456_789)
        var old = try entry("old", 1_799_900_000, nil, end: .freed, revision: 8)
        old.until = new.since
        let calls = FakeCalls(history: [new, old])
        func owners(_ time: String) async throws -> [String] {
            try await run(["history", "10.16.0.15", "--at", time], on: calls).matches(of: /vm default\/([a-z]*)/)
                .map { String($0.1) }
        }
        #expect(try await owners("2027-01-15T05:13:20Z") == ["new", "old"], "as in tables")
        #expect(try await owners("2027-01-15T05:13:20.123456789Z") == ["new"], "as in JSON")
        #expect(try await owners("2027-01-15T05:13:20.123456788Z") == ["old"])
        #expect(try await owners("2027-01-15T05:13:21Z") == ["new"])
        #expect(try await owners("2027-01-15T05:13:19Z") == ["old"])
        for nanoseconds in [-1, 120, 999_999_999, 1_799_990_000_123_456_789, 1_799_990_000_020_000_000] as [Int64] {
            let time = Timestamp(nanoseconds: nanoseconds)
            #expect(PointInTime(time.rfc3339, timeZone: .gmt) == .absolute(time))
        }
    }

    @Test func `a time to come is refused, unless the server's clock is ahead`() async throws {
        let calls = try calls()
        for option in ["--at", "--since"] {
            let failure = await #expect(throws: Failure.self) {
                try await run(["history", "10.16.0.15", option, "2027-01-15T08:01:01Z"], on: calls)
            }
            #expect(
                failure?.description == "2027-01-15T08:01:01Z is yet to come: it is 2027-01-15T08:00:00Z", "\(option)")
            // Clocks differ a little.
            try await run(["history", "10.16.0.15", option, "2027-01-15T08:01:00Z"], on: calls)
            let ahead = FakeCalls(history: [try entry("one", 1_800_009_000, nil, revision: 9)])
            let output = try await run(["history", "10.16.0.15", option, "2027-01-15T10:30:00Z"], on: ahead)
            #expect(output.contains("one"), "\(output)")
        }
        await #expect(throws: Failure.self) {
            try await run(["history", "10.16.0.15", "--at", "2027-02-01"], on: FakeCalls())
        }
    }

    @Test func `of a VM and a pod of one name the one is shown that is asked for`() async throws {
        var pod = try entry("one", 1_799_990_000, nil, revision: 9)
        pod.owner.kind = .pod
        let calls = FakeCalls(history: [pod] + (try self.calls().history.dropFirst()))
        for (kind, count) in [("vm", 2), ("pod", 1)] {
            let json = try await run(["history", "default/one", "--kind", kind, "-o", "json"], on: calls)
            #expect(json.components(separatedBy: "\"owner\"").count - 1 == count, "\(json)")
        }
    }

    @Test func `a time is written in many ways`() throws {
        let berlin = try #require(TimeZone(identifier: "Europe/Berlin"))
        let time = Timestamp(seconds: 1_795_183_200)  // 2026-11-20T14:00:00Z
        for text in [
            "2026-11-20T14:00:00Z", "2026-11-20T15:00:00+01:00", "2026-11-20 15:00", "2026-11-20T15:00:00",
            "2026-11-20 14:00:00Z",
        ] {
            #expect(PointInTime(text, timeZone: berlin) == .absolute(time), "\(text)")
        }
        for text in ["2026-11-20T15:00:00.25+01:00", "2026-11-20 15:00:00.250"] {
            #expect(
                PointInTime(text, timeZone: berlin) == .absolute(Timestamp(nanoseconds: time.nanoseconds + 250_000_000))
            )
        }
        #expect(PointInTime("7d", timeZone: berlin) == .ago(.seconds(7 * 86_400)))
        #expect(PointInTime("90m", timeZone: berlin)?.timestamp(now: time) == Timestamp(seconds: 1_795_177_800))
        let farAway = ["26-11-20", "0001-01-01T00:00:00Z", "9999-01-01", "9999-12-31T23:59:59Z"]
        for text in [
            "", "yesterday", "2026-13-01", "-3d", "2026-11-20 25:00", "2026-11-20 15:00.5",
            "2026-11-20T14:00:00.0000000001Z",
        ] + farAway {
            #expect(PointInTime(text, timeZone: berlin) == nil, "\(text)")
        }
    }

    // MARK: Backups

    private func scratch(_ body: (URL) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "holdfast-cli-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try await body(folder)
    }

    private var pieces: [[UInt8]] {
        Array(BackupPieces(Snapshot(revision: 7), createdAt: Sample.now, hasHistory: true))
    }

    @Test func `a backup appears whole or not at all, and replaces nothing unasked`() async throws {
        try await scratch { folder in
            let file = folder.appending(path: "one.backup").path
            func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: folder.path) }
            let whole = pieces.flatMap(\.self)
            for bad in [Array(whole.dropLast(3)), Array("no backup".utf8)] {
                let failure = await #expect(throws: Failure.self) {
                    try await run(["backup", file], on: FakeCalls(backup: [bad]))
                }
                #expect(failure?.description.contains("no whole backup") == true)
                #expect(try names() == [])
            }
            // What one that was killed left: in a container it had the same process number.
            let left = "\(file).\(ProcessInfo.processInfo.processIdentifier).partial"
            try Data("half".utf8).write(to: URL(filePath: left))
            try await run(["backup", file], on: FakeCalls(backup: pieces))
            try FileManager.default.removeItem(atPath: left)
            #expect(try names() == ["one.backup"])
            #expect(try Data(contentsOf: URL(filePath: file)) == Data(whole))
            let mode = try FileManager.default.attributesOfItem(atPath: file)[.posixPermissions] as? Int
            #expect(mode == 0o600)
            await #expect(throws: Failure.self) { try await run(["backup", file], on: FakeCalls(backup: pieces)) }
            // The old one stays until the new one is whole.
            await #expect(throws: Failure.self) {
                try await run(["backup", file, "--force"], on: FakeCalls(backup: [Array(whole.dropLast(3))]))
            }
            #expect(try Data(contentsOf: URL(filePath: file)) == Data(whole))
            try await run(["backup", file, "--force"], on: FakeCalls(backup: pieces))
        }
    }

    @Test func `a restore sends the file, and nothing of one that is damaged`() async throws {
        try await scratch { folder in
            let file = folder.appending(path: "one.backup")
            let whole = pieces.flatMap(\.self)
            try Data(whole).write(to: file)
            let calls = FakeCalls()
            let output = try await run(["restore", file.path], on: calls)
            #expect(output.contains("restored: revision 7") && output.contains("3 bindings"), "\(output)")
            #expect(calls.restored.withLock { $0 } == whole)

            let none = FakeCalls()
            #expect(try await run(["restore", file.path, "--dry-run"], on: none).contains("whole; revision 7"))
            try Data(whole.dropLast()).write(to: file)
            let failure = await #expect(throws: Failure.self) { try await run(["restore", file.path], on: none) }
            #expect(failure?.description.contains("cut short") == true)
            #expect(none.restored.withLock { $0 }.isEmpty)
        }
    }
}
