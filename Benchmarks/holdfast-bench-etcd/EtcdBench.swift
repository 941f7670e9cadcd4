import Addresses
import ArgumentParser
import BenchLoad
import CMessages
import EtcdStore
import Foundation
import IPAMAPI
import IPAMModel
import Ledger
import LedgerStore
import RPC
import Synchronization

/// Several servers on three etcd members of this machine: durable Allocates against the same bytes written straight into
/// etcd, one transaction a call; and how long calls wait when the leader of a large ledger is killed.
@main
struct EtcdBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Measures holdfast-server on etcd; prints medians.")

    @Option(help: "The holdfast-server to start.") var server: String
    @Option(parsing: .upToNextOption, help: "Calls in flight.") var inFlight = [64, 256]
    @Option(help: "Calls in each measurement.") var calls = 10_000
    @Option(help: "Measurements of each kind, taken in turn.") var rounds = 5
    @Option(help: "Bindings of the ledger whose leader is killed.") var bindings = 100_000
    @Option(help: "How often it is killed.") var kills = 3

    func run() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(
            path: "holdfast-bench-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let etcd = try Members(folder)
        defer { etcd.stop() }
        try await etcd.waitUntilTheyAnswer()
        try await measureRates(folder, etcd)
        try await measureTakeOver(folder, etcd)
    }

    private func measureRates(_ folder: URL, _ etcd: Members) async throws {
        let server = try Server(self.server, "unix:\(folder.path)/rate.sock", etcd, prefix: "/holdfast/rate/", folder)
        defer { server.kill() }
        let client = try IPAMClient(server: server.address)
        let channel = try RPCChannel(target: etcd.endpoints[0])
        let next = Atomic(0)
        while (try? await client.allocate(Self.request(0), timeout: .seconds(5))) == nil {
            try await Task.sleep(for: .milliseconds(50))
        }
        print("three etcd members, servers and client on one machine, medians of \(rounds) runs; calls/s")
        for inFlight in inFlight {
            var pairs: [(allocate: Double, direct: Double)] = []
            for _ in 0..<rounds {
                let allocate = try await rate(of: calls, inFlight: inFlight) {
                    let number = next.wrappingAdd(1, ordering: .relaxed).newValue
                    _ = try await client.allocate(Self.request(number), timeout: .seconds(30))
                }
                let direct = try await rate(of: calls, inFlight: inFlight) {
                    let number = next.wrappingAdd(1, ordering: .relaxed).newValue
                    try await Self.write(number, through: channel)
                }
                pairs.append((allocate, direct))
            }
            let ratio = String(format: "%.1f", median(pairs.map { $0.allocate / $0.direct }))
            print("\(inFlight) in flight")
            print("  Allocate, new owners              \(Int(median(pairs.map(\.allocate))))")
            print("  the same bytes, a Txn each        \(Int(median(pairs.map(\.direct))))")
            print("  ratio                             \(ratio)  (at least 5 wanted)")
        }
        await client.close()
        await channel.close()
    }

    private func measureTakeOver(_ folder: URL, _ etcd: Members) async throws {
        let prefix = "/holdfast/large/"
        let tenure = try EtcdTenure.open(EtcdConfiguration(endpoints: etcd.endpoints, prefix: prefix), as: "bench")
        try tenure.fill(Self.ledger(of: bindings))
        tenure.close()
        var servers = try (0..<2).map { index in
            try Server(server, "unix:\(folder.path)/\(index).sock", etcd, prefix: prefix, folder)
        }
        defer { for server in servers { server.kill() } }
        let client = try IPAMClient(server: servers.map(\.address).joined(separator: ","))
        var pauses: [Duration] = []
        for kill in 0..<kills {
            for server in servers { try await server.waitUntilItFollows() }
            var answer: DescribedBinding?
            while answer == nil {
                answer = try? await client.allocate(Self.request(-1 - kill), timeout: .seconds(60)).binding
            }
            let leader = try etcd.value(prefix + "leader")
            guard let index = servers.firstIndex(where: { $0.address == leader }) else { continue }
            let killed = ContinuousClock.now
            servers[index].kill()
            while (try? await client.allocate(Self.request(-1000 - kill), timeout: .seconds(60))) == nil {}
            pauses.append(.now - killed)
            servers[index] = try Server(server, servers[index].address, etcd, prefix: prefix, folder)
        }
        await client.close()
        print("\(bindings) bindings, lease 2 s, kill -9 of the leader \(kills) times: next Allocate after", pauses)
        print("  (at most 3 s wanted)")
    }

    private static func request(_ number: Int) -> AllocateRequest {
        AllocateRequest(owner: owner(number), attachment: attachment(number))
    }

    private static func owner(_ number: Int) -> Owner {
        Owner(
            kind: .virtualMachine, namespace: "bench", name: "vm-\(number)",
            uid: "7c1f2b9e-4a52-4f0e-9d0b-\(100_000_000_000 + number)", network: "vm-net/eth0")
    }

    private static func attachment(_ number: Int) -> Attachment {
        Attachment(
            node: "node-\(number % 100)", pod: "virt-launcher-vm-\(number)-abcde",
            podUID: "0d5a3c1e-9b7f-4e62-8a11-\(100_000_000_000 + number)", containerID: "c\(number)",
            createdAt: Timestamp(seconds: 1_800_000_000))
    }

    private static func binding(_ number: Int) -> Binding {
        let time = Timestamp(seconds: 1_800_000_000)
        let base = IPAddress(family: .ipv4, bits: 0x0a00_0002)
        return Binding(
            id: UInt64(number + 2), owner: owner(number), pool: "bench",
            assignments: [
                Assignment(
                    address: IPAddress(family: .ipv4, bits: base.bits + UInt128(number)), prefixLength: 8,
                    gateway: IPAddress(family: .ipv4, bits: 0x0a00_0001))
            ],
            mac: MACAddress(bits: 0x02_0000_0000_00 + UInt64(number)), active: attachment(number),
            newestAttachment: time, revision: 2, createdAt: time, updatedAt: time)
    }

    private static func ledger(of count: Int) -> Snapshot {
        let prefix = IPPrefix(containing: IPAddress(family: .ipv4, bits: 0x0a00_0000), length: 8)
        let pool = Pool(
            name: "bench",
            prefixes: prefix.map {
                [PoolPrefix(prefix: $0, gateway: IPAddress(family: .ipv4, bits: 0x0a00_0001))]
            } ?? [], isDefault: true, revision: 1)
        return Snapshot(revision: UInt64(count + 10), pools: [pool], bindings: (0..<count).map(binding))
    }

    /// What the server would write for one Allocate alone, and that its address is free, in a transaction of its own.
    private static func write(_ number: Int, through channel: RPCChannel) async throws {
        let binding = binding(number)
        let address = "/direct/address/\(binding.assignments[0].address)"
        let puts = [
            ("/direct/binding/vm/bench/vm-\(number)/vm-net/eth0", StoredRecord.bytes(binding)),
            (address, Array(binding.owner.key.description.utf8)),
            ("/direct/revision", Array("format 1 revision \(number)".utf8)),
        ]
        let succeeded = try unsafe await channel.unary(
            cmessages_etcdserverpb_kv(), (),
            encode: { _, arena in
                let compare = unsafe arena.make(Etcdserverpb__Compare.self)
                unsafe compare.pointee.key = unsafe arena.bytes(Array(address.utf8))
                unsafe compare.pointee.target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE
                unsafe compare.pointee.target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION
                let message = unsafe arena.make(Etcdserverpb__TxnRequest.self)
                unsafe message.pointee.n_compare = 1
                unsafe message.pointee.compare = unsafe arena.array(1) { _ in unsafe compare }
                unsafe message.pointee.n_success = puts.count
                unsafe message.pointee.success = unsafe arena.array(puts.count) { index in
                    let put = unsafe arena.make(Etcdserverpb__PutRequest.self)
                    unsafe put.pointee.key = unsafe arena.bytes(Array(puts[index].0.utf8))
                    unsafe put.pointee.value = unsafe arena.bytes(puts[index].1)
                    let operation = unsafe arena.make(Etcdserverpb__RequestOp.self)
                    unsafe operation.pointee.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT
                    unsafe operation.pointee.request_put = unsafe put
                    return unsafe operation
                }
                return unsafe message
            },
            decode: { (answer: UnsafePointer<Etcdserverpb__TxnResponse>) in unsafe answer.pointee.succeeded != 0 },
            timeout: .seconds(30))
        if !succeeded { throw ValidationError("\(address) was there already") }
    }
}
