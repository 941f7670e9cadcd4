import ArgumentParser
import BenchLoad
import CMessages
import Foundation
import IPAMAPI
import IPAMModel
import RPC
import Synchronization

/// Ratios of one run on one machine: durable Allocate against Health/Check of the same server with the same client,
/// and one call at a time against fdatasync of the same disk.
struct HoldfastBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "server", abstract: "Measures holdfast-server; prints medians and ratios.")

    @Option(help: "The holdfast-server to start.") var server: String
    @Option(help: "Calls in flight.") var inFlight = 64
    @Option(help: "Calls in each measurement.") var calls = 20_000
    @Option(help: "Measurements of each kind, taken in turn.") var rounds = 5
    @Option(help: "A token to allocate with; the server has HOLDFAST_TOKENS, HOLDFAST_POLICY, … from here.")
    var tokenFile: String?

    func run() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(
            path: "holdfast-bench-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let pools = folder.appending(path: "pools.yaml")
        try Data("[{name: bench, is_default: true, prefixes: [{prefix: 10.0.0.0/8, gateway: 10.0.0.1}]}]".utf8).write(
            to: pools)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: server)
        process.arguments = [
            "--listen", "127.0.0.1:0", "--store", "sqlite:\(folder.path)/ledger.sqlite", "--pools", pools.path,
            "--log-level", "warning",
        ]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        defer {
            process.terminate()
            process.waitUntilExit()
        }
        let first = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
        guard let address = first.split(separator: "\n").first?.split(separator: " ").last.map(String.init) else {
            throw ValidationError("\(server) did not start")
        }
        let token = try tokenFile.map { try String(contentsOfFile: $0, encoding: .utf8) }
        let client = try IPAMClient(
            server: address, currentCredentials: { .insecure }, currentToken: { token })
        let channel = try RPCChannel(target: address)
        let next = Atomic(0)
        let restarts = Atomic(0)

        @Sendable func check() async throws {
            try unsafe await channel.unary(
                cmessages_grpc_health_v1_health(), (),
                encode: { (_: Void, arena) in unsafe arena.make(Grpc__Health__V1__HealthCheckRequest.self) },
                decode: { (_: UnsafePointer<Grpc__Health__V1__HealthCheckResponse>) in }, timeout: .seconds(10))
        }
        @Sendable func allocate(_ number: Int, run: Int) async throws {
            let name = "vm-\(number)"
            _ = try await client.allocate(
                AllocateRequest(
                    owner: Owner(
                        kind: .virtualMachine, namespace: "bench", name: name,
                        uid: "7c1f2b9e-4a52-4f0e-9d0b-\(100_000_000_000 + number)", network: "vm-net/eth0"),
                    attachment: Attachment(
                        node: "node-\((number + run) % 100)", pod: "virt-launcher-\(name)-abcd\(run)",
                        podUID: "0d5a3c1e-9b7f-4e62-8a11-\(100_000_000_000 + number * 1_000_000 + run)",
                        containerID: "c\(number)-\(run)", createdAt: Timestamp(seconds: 1_800_000_000 + Int64(run)))),
                timeout: .seconds(10))
        }
        @Sendable func allocate() async throws {
            try await allocate(next.wrappingAdd(1, ordering: .relaxed).newValue, run: 0)
        }
        /// VMs that are there get a new pod each, in an order that is not that of their making.
        @Sendable func restart() async throws {
            let number = restarts.wrappingAdd(1, ordering: .relaxed).newValue
            let machines = next.load(ordering: .relaxed)
            try await allocate(1 + number * 7_919 % machines, run: 1 + number)
        }
        try await check()
        try await allocate()

        var rates: [(check: Double, allocate: Double, restart: Double)] = []
        var loads: [(check: Double, allocate: Double)] = []
        var single: [(check: Double, allocate: Double, sync: Double)] = []
        for _ in 0..<rounds {
            let (idle, checkRate) = (
                processor(process.processIdentifier), try await rate(of: calls, inFlight: inFlight, check)
            )
            let (checked, allocateRate) = (
                processor(process.processIdentifier), try await rate(of: calls, inFlight: inFlight, allocate)
            )
            loads.append((checked - idle, processor(process.processIdentifier) - checked))
            rates.append((checkRate, allocateRate, try await rate(of: calls, inFlight: inFlight, restart)))
            single.append((try await latency(of: check), try await latency(of: allocate), try medianSync(in: folder)))
        }
        await client.close()
        await channel.close()

        let (checks, allocates) = (median(rates.map(\.check)), median(rates.map(\.allocate)))
        print("\(inFlight) in flight, medians of \(rounds) runs of \(calls) calls each, client on the same machine")
        print("  Health/Check            \(Int(checks)) calls/s")
        print("  Allocate, new owners    \(Int(allocates)) calls/s")
        print("  Allocate, VM restarts   \(Int(median(rates.map(\.restart)))) calls/s")
        print(
            "  ratio                   \(rounded(median(rates.map { $0.allocate / $0.check })))  (at least 0.5 wanted)")
        print(
            "  server's CPU, us a call Check \(rounded(median(loads.map(\.check)) / Double(calls))), Allocate \(rounded(median(loads.map(\.allocate)) / Double(calls)))"
        )
        let (one, durable, sync) = (
            median(single.map(\.check)), median(single.map(\.allocate)), median(single.map(\.sync))
        )
        print("one at a time, p50")
        print("  Health/Check            \(Int(one)) us")
        print("  Allocate                \(Int(durable)) us")
        print("  fdatasync               \(Int(sync)) us")
        print(
            "  Allocate / (Check + 2 fdatasync)  \(rounded(median(single.map { $0.allocate / ($0.check + 2 * $0.sync) })))  (at most 1 wanted)"
        )
    }

    /// Microseconds of CPU that a process has used: fields 14 and 15 of /proc/PID/stat, in hundredths of a second.
    private func processor(_ pid: Int32) -> Double {
        guard let stat = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8) else { return 0 }
        let fields = stat.split(separator: " ")
        return fields.count > 14 ? ((Double(fields[13]) ?? 0) + (Double(fields[14]) ?? 0)) * 10_000 : 0
    }

    private func rounded(_ value: Double) -> String { String(format: "%.2f", value) }

    /// The median, in microseconds.
    private func latency(of call: @Sendable () async throws -> Void) async throws -> Double {
        var times: [Double] = []
        for _ in 0..<300 { times.append(try await ContinuousClock().measure { try await call() } / .microseconds(1)) }
        return median(times)
    }

    /// Microseconds of one fdatasync after 4 KiB were appended.
    private func medianSync(in folder: URL) throws -> Double {
        let file = folder.appending(path: "sync")
        try Data().write(to: file)
        let handle = try FileHandle(forWritingTo: file)
        defer { try? handle.close() }
        let block = Data(repeating: 7, count: 4096)
        var times: [Double] = []
        for _ in 0..<300 {
            try handle.write(contentsOf: block)
            times.append(ContinuousClock().measure { fdatasync(handle.fileDescriptor) } / .microseconds(1))
        }
        return median(times)
    }
}
