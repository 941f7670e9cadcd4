import Addresses
import ArgumentParser
import Foundation
import IPAMAPI
import IPAMModel
import Program
import Synchronization
import Testing
import Yams

@testable import holdfast

/// What a command wrote, also where it failed.
final class Lines: Sendable {
    let all = Mutex<[String]>([])
}

/// Runs a command line against `calls`; what it writes, line by line.
@discardableResult
func run(_ line: [String], on calls: FakeCalls, writing output: Lines = Lines()) async throws -> String {
    let command = try #require(try Holdfast.parseAsRoot(line) as? any ClientCommand, "\(line)")
    let session = Session(
        calls: calls, timeout: .seconds(1), format: command.options.output, now: Sample.now,
        write: { text in output.all.withLock { $0.append(text) } }, pause: .milliseconds(1))
    do {
        try await command.run(session)
    } catch let error as IPAMError {
        throw Failure(error, server: command.options.server)
    }
    return output.all.withLock { $0.joined(separator: "\n") + "\n" }
}

@Suite struct `What commands print` {
    @Test func `a reservation that a node's copy holds up is asked for again by itself`() async throws {
        let calls = FakeCalls(bindings: try Sample.bindings(), copies: 3)
        try await run(["reserve", "prod/idle", "--network", "vm-net/eth0"], on: calls)
        #expect(calls.noted.count == 1)
        #expect(calls.copies.withLock { $0 } < 0)
    }

    @Test func `a watch that breaks off begins anew, and shows each change once`() async throws {
        let present = try Sample.bindings()
        func event(_ kind: BindingEvent.Kind, _ index: Int?, revision: UInt64 = 41) -> BindingEvent {
            var binding = index.map { present[$0] }
            binding?.binding.revision = revision
            return BindingEvent(kind: kind, binding: binding, revision: revision)
        }
        var other = event(.created, 0)
        other.binding?.binding.owner.name = "gone"
        let calls = FakeCalls(bindings: present)
        calls.watches.withLock {
            $0 = [
                [event(.created, 0), other, event(.created, 1)], [],
                [event(.created, 0), other, event(.created, 1, revision: 42), event(.synced, nil, revision: 42)],
            ]
        }
        let output = try await run(["watch"], on: calls)
        let events = output.split(separator: "\n").map {
            $0.split(separator: " ").enumerated().filter { $0.offset == 0 || $0.offset == 2 }.map(\.element).joined(
                separator: " ")
        }
        // The last watch sends `true` at revision 41 again, and a new one.
        #expect(
            events == [
                "EVENT NAME", "CREATED testvm", "CREATED gone", "CREATED true", "UPDATED true", "SYNCED follows",
                "UPDATED true", "CREATED idle", "FREED gone",
            ], "\(output)")
    }

    @Test func `a list begins again where another server leads before its last page, a few times`() async throws {
        let calls = FakeCalls(bindings: try Sample.bindings())
        let whole = try await run(["binding", "list"], on: calls)
        calls.lostPages.withLock { $0 = 2 }
        #expect(try await run(["binding", "list"], on: calls) == whole)
        calls.lostPages.withLock { $0 = 3 }
        let failure = await #expect(throws: Failure.self) { try await run(["binding", "list"], on: calls) }
        #expect(failure?.reason == "INVALID_FIELD")
    }

    @Test func `a transfer that a node's copy holds up is asked for again, with nothing open meanwhile`() async throws {
        let calls = FakeCalls(bindings: [try Sample.bindings()[2]], copies: 2)
        let output = try await run(["transfer", "--from", "prod/idle", "--to", "prod/new"], on: calls)
        #expect(
            calls.noted.map { $0.prefix { $0 != " " } } == [
                "prepare", "abort", "prepare", "abort", "prepare", "commit", "detach",
            ])
        #expect(output.contains("new"), "\(output)")
    }

    @Test func `a transfer gives what it can of a VM's networks, and names the rest`() async throws {
        let networks = ["vm-net/eth0", "vlan/net1", "vlan/net2"]
        let bindings = try networks.map { network in
            var described = try Sample.bindings()[2]
            described.binding.owner.network = network
            return described
        }
        let calls = FakeCalls(bindings: bindings, stuck: ["vlan/net1"])
        let failure = await #expect(throws: Failure.self) {
            try await run(["transfer", "--from", "prod/idle", "--to", "prod/new"], on: calls)
        }
        #expect(failure?.description == "1 of 3 networks' addresses were not given: vlan/net1: it may not")
        #expect(calls.noted.filter { $0.hasPrefix("commit") } == ["commit vm-net/eth0", "commit vlan/net2"])
        #expect(calls.noted.contains("abort vlan/net1"))
    }

    @Test func `a reservation that moves a halted VM says from where to where`() async throws {
        let before = try Sample.bindings()[2]
        var after = before
        after.binding.assignments[0].address = try #require(IPAddress("10.16.0.99"))
        let line = ["reserve", "prod/idle", "--network", "vm-net/eth0", "--address", "10.16.0.99"]
        let moved = try await run(line, on: FakeCalls(bindings: [before], allocated: after))
        #expect(moved.hasPrefix("moved from 10.16.0.17 to 10.16.0.99:\n"), "\(moved)")
        after.binding.mac = MACAddress(bits: 0x0200_0000_0001)
        let both = try await run(line, on: FakeCalls(bindings: [before], allocated: after))
        #expect(both.hasPrefix("moved from 10.16.0.17 02:00:0a:10:00:11 to 10.16.0.99 02:00:00:00:00:01:\n"), "\(both)")
        let same = try await run(line, on: FakeCalls(bindings: [before], allocated: before))
        #expect(same.hasPrefix("it has a binding already:\n"), "\(same)")
    }

    /// After a change that is meant: `UPDATE_GOLDEN=1 swift test --filter HoldfastCLITests`, and read the difference.
    @Test(
        arguments: [
            ["pool", "list"], ["pool", "show", "vm-net"], ["pool", "show", "lab"], ["binding", "list"],
            ["binding", "show", "10.16.0.15"], ["binding", "show", "prod/idle"], ["watch"],
        ], ["table", "json", "yaml"])
    func `is what the golden file has`(line: [String], format: String) async throws {
        let calls = FakeCalls(pools: try Sample.pools(), bindings: try Sample.bindings())
        let output = try await run(line + ["-o", format], on: calls)
        let name = line.joined(separator: "-").replacing("/", with: "_") + ".\(format)"
        let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Golden/\(name)")
        if ProcessInfo.processInfo.environment["UPDATE_GOLDEN"] != nil { try Data(output.utf8).write(to: file) }
        #expect(output == (try String(contentsOf: file, encoding: .utf8)), "\(name)")
    }

    @Test(arguments: [
        ["pool", "list"], ["pool", "show", "vm-net"], ["binding", "list"], ["binding", "show", "10.16.0.15"],
    ])
    func `is the same in JSON as in YAML`(line: [String]) async throws {
        let calls = FakeCalls(pools: try Sample.pools(), bindings: try Sample.bindings())
        let json = try await run(line + ["-o", "json"], on: calls)
        let yaml = try await run(line + ["-o", "yaml"], on: calls)
        let parsed = try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? NSDictionary)
        // JSON is YAML: Yams reads both.
        let (a, b) = (try Yams.compose(yaml: json), try Yams.compose(yaml: yaml))
        #expect(a == b)
        #expect(parsed.count > 0)
    }

    @Test(arguments: ["json", "yaml"])
    func `is read again by create and update`(format: String) async throws {
        let calls = FakeCalls(pools: try Sample.pools())
        let expected = try Sample.pools().map { described in
            var pool = described.pool
            pool.revision = 0
            return pool
        }
        let list = try await run(["pool", "list", "-o", format], on: calls)
        #expect(try PoolManifest.parse(Data(list.utf8), source: "list") == expected)
        let one = try await run(["pool", "show", "vm-net", "-o", format], on: calls)
        #expect(try PoolManifest.parse(Data(one.utf8), source: "show") == [expected[1]])
    }

    @Test func `durations and times keep their fractions`() {
        #expect(Delay(nanoseconds: 1_500_000_000).text == "1.500s")
        #expect(Delay(nanoseconds: 1_500_000).text == "0.001500s")
        #expect(Timestamp(nanoseconds: 1_000_000_120).rfc3339 == "1970-01-01T00:00:01.000000120Z")
        #expect(Timestamp(nanoseconds: 1_020_000_000).rfc3339 == "1970-01-01T00:00:01.020Z")
        #expect(Timestamp(seconds: 1).rfc3339 == "1970-01-01T00:00:01Z")
        #expect(Timestamp(nanoseconds: -1).short == "1969-12-31T23:59:59Z")
        #expect(Timestamp(nanoseconds: -1).rfc3339 == "1969-12-31T23:59:59.999999999Z")
    }

    @Test func `says in words that there is nothing`() async throws {
        #expect(try await run(["binding", "list"], on: FakeCalls()) == "no bindings\n")
        #expect(try await run(["pool", "list"], on: FakeCalls()) == "no pools\n")
        #expect(try await run(["binding", "list", "-o", "json"], on: FakeCalls()) == "{\n  \"bindings\": []\n}\n")
    }

    @Test func `keeps strings apart from what YAML reads as something else`() throws {
        for text in ["true", "null", "1", "1.5", "", "~", "a: b", "# a", "0x1f", "täst", "line\nline", "\"", "- a"] {
            let yaml = Document.object([("a", .string(text))]).yaml
            #expect(try YAMLDecoder().decode([String: String].self, from: yaml)["a"] == text, "\(yaml)")
            #expect((try? JSONDecoder().decode([String: String].self, from: Data(jsonOf(text).utf8)))?["a"] == text)
        }
    }

    private func jsonOf(_ text: String) -> String { Document.object([("a", .string(text))]).jsonLine }

    @Test(arguments: [["binding", "show", "prod/idle"], ["transfer", "--from", "prod/idle", "--to", "prod/new"]])
    func `has one form for a VM's bindings, however many they are`(line: [String]) async throws {
        for count in [1, 2] {
            var bindings = [try Sample.bindings()[2], try Sample.bindings()[2]]
            bindings[1].binding.owner.network = "vlan/net1"
            let json = try await run(line + ["-o", "json"], on: FakeCalls(bindings: Array(bindings.prefix(count))))
            let object = try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: [Any]])
            #expect(object["bindings"]?.count == count, "\(json)")
        }
    }

    @Test func `counts ages in one unit`() {
        for (seconds, text) in [
            (-5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172_800, "2d"),
        ] as [(Int64, String)] {
            #expect(Sample.now.back(seconds).age(at: Sample.now) == text)
        }
    }
}

@Suite struct `What commands ask the server for` {
    @Test func `filters are the server's`() async throws {
        let calls = FakeCalls(pools: try Sample.pools(), bindings: try Sample.bindings())
        for (arguments, count) in [
            (["-n", "prod"], 1), (["--node", "node-b"], 2), (["--state", "reserved"], 1),
            (["--state", "MIGRATING"], 1),
            (["--pool", "lab"], 0), (["--name", "true"], 1), ([], 3),
        ] {
            let json = try await run(["binding", "list", "-o", "json"] + arguments, on: calls)
            #expect(json.components(separatedBy: "\"owner\"").count - 1 == count, "\(arguments)")
        }
    }

    @Test func `reserve allocates without an attachment`() async throws {
        let calls = FakeCalls(bindings: try Sample.bindings())
        try await run(
            [
                "reserve", "default/testvm", "--network", "vm-net/eth0", "--address", "10.16.0.15", "--address",
                "fd00::1", "--mac", "02:00:00:00:00:01", "--pool", "vm-net",
            ], on: calls)
        #expect(
            calls.noted == [
                "allocate vm default/testvm (vm-net/eth0) pool vm-net [\"10.16.0.15\", \"fd00::1\"] "
                    + "mac 02:00:00:00:00:01 attached false"
            ])
    }

    @Test func `release refuses what a pod carries, unless forced`() async throws {
        let calls = FakeCalls(bindings: try Sample.bindings())
        for name in ["default/testvm", "default/true"] {
            let failure = await #expect(throws: Failure.self) { try await run(["release", name], on: calls) }
            #expect(failure?.description.contains("on node") == true)
            #expect(failure?.hint?.contains("--force") == true)
        }
        #expect(calls.noted.isEmpty)
        try await run(["release", "default/true", "--force"], on: calls)
        let output = try await run(["release", "prod/idle"], on: calls)
        #expect(output == "released: 10.16.0.17 of prod/idle (vm-net/eth0)\n")
        let json = try await run(
            ["release", "prod/idle", "-o", "json"], on: FakeCalls(bindings: try Sample.bindings()))
        #expect(json.contains("10.16.0.17"), "\(json)")
        #expect(
            calls.noted == [
                "release vm default/true (vm-net/eth0)", "release vm prod/idle (vm-net/eth0)",
            ])
    }

    @Test func `a VM that arrives by migration and is active nowhere yet counts as carried`() async throws {
        var arriving = try Sample.bindings()[0]
        arriving.binding.active = nil
        let calls = FakeCalls(bindings: [arriving])
        let commands = [
            ["release", "default/testvm"], ["transfer", "--from", "default/testvm", "--to", "default/new"],
        ]
        for command in commands {
            let failure = await #expect(throws: Failure.self) { try await run(command, on: calls) }
            #expect(failure?.description.contains("virt-launcher-testvm-q9z4c on node node-b") == true)
        }
        #expect(calls.noted.isEmpty)
        // A transfer that broke off leaves a target that is none.
        arriving.binding.migrationUID = "by-hand-1"
        let again = FakeCalls(bindings: [arriving])
        for command in commands { _ = try? await run(command, on: again) }
        #expect(again.noted.count >= 2 && again.noted.contains("release vm default/testvm (vm-net/eth0)"))
    }

    @Test func `transfer ends the migration that is named`() async throws {
        let calls = FakeCalls(bindings: try Sample.bindings())
        try await run(["transfer", "default/testvm", "--migration", "m-1", "--commit"], on: calls)
        try await run(["transfer", "default/testvm", "--migration", "m-2", "--abort"], on: calls)
        #expect(
            calls.noted == [
                "transfer vm default/testvm (vm-net/eth0) m-1 commit(targetOwner: nil)",
                "transfer vm default/testvm (vm-net/eth0) m-2 abort",
            ])
    }

    @Test func `a VM with several networks needs one named`() async throws {
        var second = try Sample.bindings()[2]
        second.binding.owner.network = "vm-net/net1"
        let calls = FakeCalls(bindings: [try Sample.bindings()[2], second])
        let failure = await #expect(throws: Failure.self) { try await run(["release", "prod/idle"], on: calls) }
        #expect(failure?.hint == "name one with --network: vm-net/eth0, vm-net/net1")
        for line in [["release", "prod/idle"], ["transfer", "--from", "prod/idle", "--to", "prod/new"]] {
            let typo = await #expect(throws: Failure.self) { try await run(line + ["--network", "eth0"], on: calls) }
            #expect(typo?.hint == "it has one on: vm-net/eth0, vm-net/net1")
        }
        try await run(["release", "prod/idle", "--network", "vm-net/net1"], on: calls)
        #expect(calls.noted == ["release vm prod/idle (vm-net/net1)"])
    }

    @Test func `of a VM and a pod of one name the one is named by its kind`() async throws {
        var pod = try Sample.bindings()[2]
        pod.binding.owner.kind = .pod
        let calls = FakeCalls(bindings: [try Sample.bindings()[2], pod])
        for line in [["release", "prod/idle"], ["release", "prod/idle", "--network", "vm-net/eth0"]] {
            let failure = await #expect(throws: Failure.self) { try await run(line, on: calls) }
            #expect(failure?.hint == "name one with --kind vm or --kind pod")
        }
        try await run(["release", "prod/idle", "--kind", "pod"], on: calls)
        try await run(["release", "prod/idle", "--kind", "VM"], on: calls)
        // Only VMs migrate.
        try await run(["transfer", "prod/idle", "--migration", "m", "--abort"], on: calls)
        #expect(
            calls.noted == [
                "release pod prod/idle (vm-net/eth0)", "release vm prod/idle (vm-net/eth0)",
                "transfer vm prod/idle (vm-net/eth0) m abort",
            ])
        let pods = try await run(["binding", "show", "prod/idle", "--kind", "pod", "-o", "json"], on: calls)
        #expect(pods.contains("OWNER_KIND_POD") && !pods.contains("OWNER_KIND_VIRTUAL_MACHINE"), "\(pods)")
        let none = await #expect(throws: Failure.self) {
            try await run(["release", "default/true", "--kind", "pod"], on: FakeCalls(bindings: try Sample.bindings()))
        }
        #expect(none?.description == "pod default/true has no binding")
    }

    @Test func `a transfer to another VM passes over pods of the two names`() async throws {
        let vm = try Sample.bindings()[2]
        var (pod, other) = (vm, vm)
        (pod.binding.owner.kind, other.binding.owner.kind) = (.pod, .pod)
        pod.binding.active = try Sample.bindings()[1].binding.active
        other.binding.owner.name = "new"
        let calls = FakeCalls(bindings: [pod, other, vm])
        try await run(["transfer", "--from", "prod/idle", "--to", "prod/new"], on: calls)
        #expect(calls.noted == ["prepare vm-net/eth0", "commit vm-net/eth0", "detach new (vm-net/eth0)"])
    }

    @Test func `pools come from a file, in its order`() async throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "pools-\(UUID()).yaml")
        defer { try? FileManager.default.removeItem(at: file) }
        try Data("[{name: b, prefixes: [{prefix: 10.1.0.0/24}]}, {name: a, prefixes: [{prefix: 10.2.0.0/24}]}]".utf8)
            .write(to: file)
        let calls = FakeCalls(pools: try Sample.pools())
        try await run(["pool", "create", "-f", file.path], on: calls)
        try await run(["pool", "update", "-f", file.path], on: calls)
        try await run(["pool", "delete", "lab"], on: calls)
        #expect(
            calls.noted == [
                "create pool b", "create pool a", "update pool b", "update pool a", "delete pool lab",
            ])
    }

    @Test func `an update is based on the revision that the file has, and a creation on none`() async throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "pools-\(UUID()).yaml")
        defer { try? FileManager.default.removeItem(at: file) }
        let calls = FakeCalls(pools: try Sample.pools())
        try Data(try await run(["pool", "list", "-o", "yaml"], on: calls).utf8).write(to: file)
        let output = try await run(["pool", "update", "-f", file.path], on: calls)
        #expect(output.hasPrefix("pool lab unchanged\npool vm-net unchanged\n\nNAME"), "\(output)")
        try await run(["pool", "create", "-f", file.path], on: calls)
        #expect(
            calls.noted == [
                "update pool lab on 3", "update pool vm-net on 12", "create pool lab", "create pool vm-net",
            ])
    }

    @Test func `of several pools the refused one is named, and what became of the others`() async throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "pools-\(UUID()).yaml")
        defer { try? FileManager.default.removeItem(at: file) }
        let pools = ["lab", "b", "c", "d"].map { "{name: \($0), prefixes: [{prefix: 10.1.0.0/24}]}" }
        try Data("[\(pools.joined(separator: ", "))]".utf8).write(to: file)
        let failure = await #expect(throws: Failure.self) {
            try await run(["pool", "update", "-f", file.path], on: FakeCalls(pools: try Sample.pools(), stuck: ["c"]))
        }
        #expect(
            failure?.description
                == "pool c: it was changed (the others: lab updated, b created, d not tried)")
        #expect(failure?.hint?.contains("revision") == true)
    }
}

@Suite struct `What commands say when it fails` {
    @Test func `an address in quarantine: who had it, and until when`() async throws {
        let refusal = IPAMError(
            .notFound, .addressQuarantined,
            "10.0.0.5 is in no binding; vm default/old (vm-net/eth0) had it, others may have it from 2027-01-15T08:01:00Z",
            metadata: ["lastOwner": "vm default/old", "availableAt": "2027-01-15T08:01:00Z"])
        let failure = await #expect(throws: Failure.self) {
            try await run(["binding", "show", "10.0.0.5"], on: FakeCalls(refusal: refusal))
        }
        #expect(failure?.description == refusal.message)
        #expect(failure?.hint?.hasPrefix("vm default/old gets it back") == true)
        let pods = IPAMError(.notFound, .addressQuarantined, "", metadata: ["lastOwner": "pod default/old"])
        #expect(Failure(pods, server: "a:1").hint == "wait till then", "nothing is reserved for a pod")
    }

    @Test func `a server that does not answer: which one, and how to name another`() async throws {
        let refusal = IPAMError(.unavailable, .noAnswer, "connection refused")
        let failure = await #expect(throws: Failure.self) {
            try await run(["pool", "list", "--server", "10.9.9.9:7440"], on: FakeCalls(refusal: refusal))
        }
        #expect(failure?.description == "no answer from the server at 10.9.9.9:7440: connection refused")
        #expect(failure?.hint?.contains("HOLDFAST_SERVER") == true)
    }

    @Test func `a leader that is not reached: its address, and how it is`() {
        let silence = IPAMError(.unavailable, .noAnswer, "timed out", metadata: ["server": "10.42.1.7:7440"])
        let failure = Failure(silence, server: "127.0.0.1:7440")
        #expect(
            failure.description
                == "no answer from the leader at 10.42.1.7:7440, which the server at 127.0.0.1:7440 names: timed out")
        let named = IPAMError(.unavailable, .notLeader, "it does not lead", metadata: ["leader": "10.42.1.7:7440"])
        for hint in [failure.hint, Failure(named, server: "127.0.0.1:7440").hint] {
            #expect(hint?.contains("10.42.1.7:7440 is not reached from here") == true, "\(hint ?? "")")
        }
        let given = Failure(silence, server: "a:7440, 10.42.1.7:7440")
        #expect(given.description == "no answer from the server at a:7440, 10.42.1.7:7440: timed out")
        #expect(given.hint?.contains("--listen 10.42.1.7:7440`") == true, "\(given.hint ?? "")")
        let nobody = IPAMError(.unavailable, .notLeader, "no other does yet")
        #expect(Failure(nobody, server: "127.0.0.1:7440").hint?.contains("try again") == true)
    }

    @Test(arguments: [
        ("Ssl handshake failed: error:0A00010B:SSL routines::wrong version number", true, "leave out --tls-ca"),
        ("Ssl handshake failed: error:0A000086:SSL routines::certificate verify failed", true, "not of the CA"),
        ("Peer name 10.9.9.9 is not in peer certificate", true, "openssl s_client -connect 10.9.9.9:7440"),
        ("ipv4:10.9.9.9:7440: Socket closed", false, "with --tls-ca"),
        ("ipv4:10.9.9.9:7440: Socket closed", true, "--tls-cert and --tls-key"),
        ("ipv4:10.9.9.9:7440: Failed parsing HTTP/2", false, "no Holdfast server's API"),
        ("Received http2 header with status: 404", false, "no Holdfast server's API"),
        ("Deadline Exceeded", false, "--timeout"),
    ])
    func `a server that cannot be spoken with: what is wrong between the two`(words: String, tls: Bool, hint: String) {
        let failure = Failure(
            IPAMError(.unavailable, .noAnswer, words), server: "10.9.9.9:7440", speaksTLS: tls)
        #expect(failure.hint?.contains(hint) == true, "\(failure.hint ?? "")")
    }

    @Test func `a server of something else: which one, and what is wrong with it`() {
        let other = Failure(IPAMError(.internalError, .noAnswer, "Method not found!"), server: "10.9.9.9:2379")
        #expect(other.description == "no answer from the server at 10.9.9.9:2379: Method not found!")
        #expect(other.hint?.contains("no Holdfast server's API") == true)
        #expect(Failure(IPAMError(.internalError, .noAnswer, "else"), server: "10.9.9.9:2379").hint == nil)
        let none = Failure(IPAMError(.unavailable, .noAnswer, "refused"), server: "10.9.9.9:7440,10.9.9.8:7440")
        #expect(none.hint?.contains("--listen 10.9.9.9:7440`") == true, "\(none.hint ?? "")")
    }

    @Test func `a pool whose freed addresses wait: from when it can be done`() {
        let refusal = IPAMError(
            .failedPrecondition, .poolInUse, "it waits", metadata: ["availableAt": "2026-11-29T21:00:00Z"])
        #expect(Failure(refusal, server: "a:1").hint == "it can be done from 2026-11-29T21:00:00Z on")
    }

    @Test func `a pool to list the bindings of that is not there`() async throws {
        let calls = FakeCalls(pools: try Sample.pools(), bindings: try Sample.bindings())
        let failure = await #expect(throws: Failure.self) {
            try await run(["binding", "list", "--pool", "labb"], on: calls)
        }
        #expect(failure?.description.contains("labb") == true && failure?.reason == "POOL_NOT_FOUND")
    }

    @Test func `an address that is a pool's gateway: whose`() async throws {
        let calls = FakeCalls(pools: try Sample.pools())
        let failure = await #expect(throws: Failure.self) {
            try await run(["binding", "show", "10.16.0.1"], on: calls)
        }
        #expect(failure?.description == "10.16.0.1 is the gateway of pool vm-net, and given to nobody")
        let other = await #expect(throws: Failure.self) { try await run(["binding", "show", "10.16.0.2"], on: calls) }
        #expect(other?.reason == "BINDING_NOT_FOUND")
    }

    @Test func `a pool to delete that is not there`() async throws {
        let calls = FakeCalls(pools: try Sample.pools())
        let failure = await #expect(throws: Failure.self) { try await run(["pool", "delete", "labb"], on: calls) }
        #expect(failure?.description.contains("labb") == true && failure?.hint?.contains("pool list") == true)
        #expect(calls.noted.isEmpty)
    }

    @Test func `an address that is never given: where to see which`() {
        let refusal = IPAMError(
            .invalidArgument, .addressExcluded, "10.0.0.1 is never given", metadata: ["pool": "vm-net"])
        #expect(Failure(refusal, server: "a:1").hint == "`holdfast pool show vm-net` shows what is never given")
        let awaited = IPAMError(.unavailable, .awaitsRestore, "")
        #expect(Failure(awaited, server: "a:1").hint?.contains("`holdfast restore FILE`") == true)
        let held = IPAMError(.resourceExhausted, .poolExhausted, "", metadata: ["cause": "restore"])
        #expect(Failure(held, server: "a:1").hint?.contains("add a prefix") == false)
    }

    @Test func `a default pool that is closed to the namespace: where to open it`() {
        let refusal = IPAMError(.failedPrecondition, .noDefaultPool, "", metadata: ["pool": "vm-net"])
        #expect(Failure(refusal, server: "a:1").hint?.contains("the namespaces of vm-net") == true)
    }

    @Test func `a watch that gets no answer prints no head`() async throws {
        let calls = FakeCalls(refusal: IPAMError(.unavailable, .noAnswer, "connection refused"))
        let output = Lines()
        await #expect(throws: Failure.self) { try await run(["watch"], on: calls, writing: output) }
        #expect(output.all.withLock { $0 } == [])
    }

    @Test func `a VM without binding`() async throws {
        for line in [["binding", "show", "a/b"], ["release", "a/b"]] {
            let failure = await #expect(throws: Failure.self) { try await run(line, on: FakeCalls()) }
            #expect(failure?.description == "a/b has no binding")
            #expect(failure?.hint?.contains("binding list") == true)
        }
    }
}
