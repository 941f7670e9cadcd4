import RPC
import Testing

@Suite struct StressTests {
    @Test func `64 clients at once that cancel, time out, let go and vanish leave nothing behind`() async throws {
        let seed = UInt64.random(in: 1 ... .max)
        print("stress seed \(seed)")
        let probe = Probe()
        defer { probe.keep(nil) }
        let server = try RPCServer(
            configuration: .init(listeners: [.init("127.0.0.1:0")]), services: [EchoService.make(probe)])
        let address = try server.start()[0]
        var channels: [RPCChannel] = []
        for _ in 0..<4 { channels.append(try RPCChannel(target: address)) }
        await withTaskGroup(of: Void.self) { group in
            for worker in 0..<64 {
                let channel = channels[worker % channels.count]
                group.addTask {
                    var generator = SeededGenerator(state: seed &+ UInt64(worker) &* 0x9E37_79B9_7F4A_7C15 | 1)
                    for _ in 0..<60 { await Self.step(channel, address, probe, &generator) }
                }
            }
        }
        // One server goes while calls still run on it.
        let late = channels.map { channel in Task { try await channel.release("wait") } }
        let ended = probe.count("ended")
        #expect(await eventually { probe.count("started") >= ended + late.count })
        await server.shutdown(grace: .milliseconds(100))
        for task in late { await #expect(throws: (any Error).self) { try await task.value } }
        for channel in channels { await channel.close() }
        #expect(probe.count("started") == probe.count("ended"))
        #expect(probe.count("wrong") == 0)
        #expect(probe.count("right") > 0)
    }

    private static func step(
        _ channel: RPCChannel, _ address: String, _ probe: Probe, _ generator: inout SeededGenerator
    ) async {
        let pause = Duration.microseconds(Int.random(in: 0...3000, using: &generator))
        let text = "text \(Int.random(in: 0...1_000_000, using: &generator))"
        let count = Int.random(in: 0...20, using: &generator)
        switch Int.random(in: 0..<10, using: &generator) {
        case 0...2:
            await expect(text, probe) { try await channel.allocate(count % 2 == 0 ? "here" : "elsewhere", text) }
        case 3: await expect(text, probe) { try await channel.release(text) }
        case 4: _ = try? await channel.release("wait", timeout: pause)
        case 5: await cancelled(after: pause) { _ = try await channel.release("wait") }
        case 6: await cancelled(after: pause) { for try await _ in channel.watch("flood", count) {} }
        case 7:
            // Lets go in the middle.
            var left = count
            do {
                for try await _ in channel.watch("flood", 30, timeout: .seconds(30)) {
                    left -= 1
                    if left <= 0 { break }
                }
            } catch { probe.add("wrong") }
        case 8:
            let sequence = channel.watch("", count)
            var got = 0
            do {
                for try await _ in sequence { got += 1 }
                probe.add(got == count ? "right" : "wrong")
            } catch { probe.add("wrong") }
        default:
            guard let client = try? RawClient(address) else { return probe.add("wrong") }
            let mode = Array("wait".utf8)
            try? client.call(
                "/holdfast.ipam.v1.IPAM/Release",
                message: [0x0a, UInt8(mode.count + 2), 0x1a, UInt8(mode.count)] + mode)
            try? await Task.sleep(for: pause)
            client.close()
        }
    }

    private static func expect(_ text: String, _ probe: Probe, _ call: () async throws -> String) async {
        do { probe.add(try await call() == text ? "right" : "wrong") } catch { probe.add("wrong") }
    }

    private static func cancelled(after pause: Duration, _ call: @escaping @Sendable () async throws -> Void) async {
        let task = Task { try await call() }
        try? await Task.sleep(for: pause)
        task.cancel()
        _ = await task.result
    }
}
