import Addresses
import Foundation
import IPAMAPI
import IPAMModel
import Ledger
import LedgerStore
import StoreConformance
import Testing

/// The real `holdfast backup` and `holdfast restore`, on real servers that serve meanwhile.
@Suite(.serialized, .enabled(if: EtcdCluster.isInstalled)) struct `A backup` {
    private static let cluster = Result { try EtcdCluster() }
    private let cluster: EtcdCluster
    private let folder: URL

    init() throws {
        cluster = try Self.cluster.get()
        folder = FileManager.default.temporaryDirectory.appending(
            path: "holdfast-backup-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    private func path(_ name: String) -> String { folder.appending(path: name).path }

    private func holdfast(_ arguments: String..., server: OneServer? = nil) throws -> (status: Int32, text: String) {
        let process = Process()
        process.executableURL = Servers.binary("holdfast")
        process.arguments = arguments + (server.map { ["--server", $0.address] } ?? [])
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, text)
    }

    private func read(_ file: String) throws -> Snapshot {
        var reader = BackupReader()
        try reader.read(Array(try Data(contentsOf: URL(filePath: file))))
        return try reader.finish()
    }

    private func all(_ server: OneServer) async throws -> [Binding] {
        let client = try IPAMClient(server: server.address)
        var (bindings, token): ([Binding], String?) = ([], nil)
        repeat {
            let page = try await client.bindings(
                matching: BindingFilter(), pageSize: 1000, pageToken: token, timeout: .seconds(30))
            bindings += page.bindings.map(\.binding)
            token = page.nextPageToken
        } while token != nil
        await client.close()
        return bindings
    }

    private func facts(_ bindings: [Binding]) -> Set<String> {
        Set(bindings.map { "\($0.owner.key) \($0.owner.uid) \($0.assignments.map(\.address)) \($0.mac) \($0.state)" })
    }

    /// Promise 1 in the backup itself, which `Ledger` refuses else; 2 to 4 by what clients were told: who surely had an
    /// address while the backup was made has it in there, and the restored server says so and goes on from it.
    @Test(arguments: [false, true])
    func `that is made under load has all that was acknowledged, and fills the other engine`(fromEtcd: Bool)
        async throws
    {
        defer { try? FileManager.default.removeItem(at: folder) }
        let stores = ["sqlite:\(path("a.sqlite"))", cluster.store, "sqlite:\(path("b.sqlite"))"]
        let (from, to) = fromEtcd ? (stores[1], stores[2]) : (stores[0], stores[1])
        let source = try OneServer(folder, store: from, prefix: UUID().uuidString, hasPools: true)
        #expect(eventually { (try? holdfast("pool", "list", server: source))?.text.contains("vm-net") == true })
        let kept = try holdfast("reserve", "default/kept", "--network", "n/eth0", server: source)
        #expect(kept.status == 0, "\(kept.text)")
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        let load = try Load(source.address, seed: seed)
        #expect(eventually { load.answers > 300 }, "\(source.log)")
        let (file, before) = (path("one.backup"), ContinuousClock.now)
        let made = try holdfast("backup", file, server: source)
        let after = ContinuousClock.now
        #expect(made.status == 0 && made.text.contains("bindings"), "\(made.text)")
        let answers = load.answers
        #expect(eventually { load.answers > answers + 100 }, "the server serves on")
        let faults = try await load.finish(servers: source.address)
        #expect(faults.isEmpty, "\(faults)")

        let snapshot = try read(file)
        let ledger = try Ledger(snapshot)
        let sure = load.holdings.filter { $0.from <= before && $0.until.map { $0 > after } ?? true }
        #expect(snapshot.bindings.contains { $0.owner.name == "kept" })
        for holding in sure {
            #expect(ledger.binding(holding: holding.address)?.owner.name == holding.owner, "\(holding.address)")
        }
        #expect(!snapshot.history.isEmpty && snapshot.history.allSatisfy { $0.revision <= snapshot.revision })
        // What was and what is do not contradict each other.
        for binding in snapshot.bindings {
            let last = snapshot.history.filter { $0.addresses == binding.assignments.map(\.address) }.map(\.until).max {
                ($0 ?? binding.heldSince) < ($1 ?? binding.heldSince)
            }
            if let last, let last { #expect(last <= binding.heldSince) }
        }

        let target = try OneServer(folder, store: to, prefix: UUID().uuidString, hasPools: false)
        let restored = try holdfast("restore", file, server: target)
        #expect(restored.status == 0, "\(restored.text)\(target.log)")
        #expect(restored.text.contains("\(snapshot.bindings.count) bindings"), "\(restored.text)")
        #expect(facts(try await all(target)) == facts(snapshot.bindings))
        #expect(facts(try await all(target)).count == snapshot.bindings.count)
        let again = try holdfast("restore", file, server: target)
        #expect(again.status == 1 && again.text.contains("which a restore would forget"), "\(again.text)")
        #expect(facts(try await all(target)) == facts(snapshot.bindings))

        // It is durable, and a second backup has the same in it.
        try target.restart()
        let second = try holdfast("backup", path("two.backup"), server: target)
        #expect(second.status == 0, "\(second.text)")
        let copy = try read(path("two.backup"))
        #expect(Set(copy.bindings) == Set(snapshot.bindings))
        #expect(Set(copy.freed) == Set(snapshot.freed))
        #expect(Set(copy.pools) == Set(snapshot.pools))
        #expect(Set(copy.history) == Set(snapshot.history))
        // Goes on as before: the same calls keep their addresses, new owners get none that another has.
        let more = try Load(target.address, firstPod: 1_000_000, seed: ~seed)
        #expect(eventually { more.answers > 200 }, "\(target.log)")
        #expect(try await more.finish(servers: target.address) == [])
    }

    @Test func `of a server with pools of its own is restored into those, or refused where it does not fit`()
        async throws
    {
        defer { try? FileManager.default.removeItem(at: folder) }
        let source = try OneServer(folder, store: "sqlite:\(path("a.sqlite"))", prefix: "", hasPools: true)
        let reserved = try holdfast("reserve", "default/a", "--network", "n/eth0", server: source)
        #expect(reserved.status == 0, "\(reserved.text)")
        #expect(try holdfast("backup", path("one.backup"), "--without-history", server: source).status == 0)
        let same = try holdfast("backup", path("one.backup"), server: source)
        #expect(same.status == 1 && same.text.contains("is there already"))
        #expect(try holdfast("backup", path("one.backup"), "--force", server: source).status == 0)
        let look = try holdfast("restore", path("one.backup"), "--dry-run")
        #expect(look.status == 0 && look.text.contains("1 pool, 1 binding,"), "\(look.text)")

        let target = try OneServer(
            folder, store: "sqlite:\(path("b.sqlite"))", prefix: "", hasPools: true, reuseDelay: "20s")
        let restored = try holdfast("restore", path("one.backup"), server: target)
        #expect(restored.status == 0, "\(restored.text)")
        // Nobody knows who else may have one; who asks by name is served.
        let refused = try holdfast("reserve", "default/b", "--network", "n/eth0", server: target)
        #expect(refused.status == 1, "\(refused.text)")
        let named = try holdfast(
            "reserve", "default/c", "--network", "n/eth0", "--address", "10.16.0.77", server: target)
        #expect(named.status == 0, "\(named.text)")
        #expect(
            try eventually {
                try holdfast("reserve", "default/b", "--network", "n/eth0", server: target).status == 0
            })

        let narrow = try OneServer(
            folder, store: "sqlite:\(path("c.sqlite"))", prefix: "", hasPools: true, network: "10.99.0.0/24")
        let misfit = try holdfast("restore", path("one.backup"), server: narrow)
        #expect(misfit.status == 1 && misfit.text.contains("does not fit the pools"), "\(misfit.text)")
        #expect(try await all(narrow).isEmpty)
    }

    /// kill -9 while the file comes, and while it is made durable: the old state or the new one, and never a part.
    @Test(arguments: [false, true])
    func `whose restore is killed in the middle leaves all or nothing`(inEtcd: Bool) async throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let bindings = (1...3000).map { Example.binding(owner: $0, address: $0 + 10) }
        let snapshot = Snapshot(revision: 9000, pools: [Example.pool], bindings: bindings)
        let pieces = Array(BackupPieces(snapshot, createdAt: Timestamp(seconds: 1_800_000_000), hasHistory: true))
        #expect(pieces.count > 2)
        let server = try OneServer(
            folder, store: inEtcd ? cluster.store : "sqlite:\(path("a.sqlite"))", prefix: UUID().uuidString,
            hasPools: false, lease: 2)
        let address = server.address
        @Sendable func send(_ count: Int) async throws {
            let client = try IPAMClient(server: address)
            let id = UUID().uuidString
            var offset: UInt64 = 0
            for (index, piece) in pieces.prefix(count).enumerated() {
                _ = try await client.restore(
                    RestorePiece(uploadID: id, offset: offset, data: piece, finishes: index == pieces.count - 1),
                    timeout: .seconds(60))
                offset += UInt64(piece.count)
            }
            await client.close()
        }
        #expect(await eventually { (try? await send(pieces.count - 1)) != nil })
        try server.restart(SIGKILL)
        #expect(try await all(server).isEmpty)

        var attempts = 0
        while attempts < 60 {
            attempts += 1
            let sending = Task { try? await send(pieces.count) }
            try await Task.sleep(for: .milliseconds(Int64.random(in: 5...80) * Int64(attempts)))
            try server.restart(SIGKILL)
            await sending.value
            let found = try await all(server)
            #expect(found.isEmpty || facts(found) == facts(bindings), "\(found.count) of \(bindings.count)")
            if !found.isEmpty { break }
        }
        #expect(attempts < 60)
    }
}

/// One real server on a store of its own.
private final class OneServer {
    let address: String
    private let folder: URL
    private let arguments: [String]
    private let name = String(UUID().uuidString.prefix(8))
    private var process: Process?

    init(
        _ folder: URL, store: String, prefix: String, hasPools: Bool, network: String = "10.16.0.0/16",
        reuseDelay: String = "0s", lease: Int = 20
    ) throws {
        self.folder = folder
        address = "unix:\(folder.path)/\(name).sock"
        var arguments = ["--listen", address, "--http", "off", "--store", store, "--audit", "off"]
        if store.hasPrefix("etcd:") {
            arguments += ["--etcd-prefix", "/holdfast/\(prefix)/", "--etcd-lease", "\(lease)"]
        }
        if hasPools {
            let pools = folder.appending(path: "\(name).yaml")
            let pool = "{name: vm-net, is_default: true, reuse_delay: \(reuseDelay), prefixes: [{prefix: \(network)}]}"
            try Data("[\(pool)]".utf8).write(to: pools)
            arguments += ["--pools", pools.path]
        }
        self.arguments = arguments
        try start()
    }

    deinit { kill(SIGKILL) }

    var log: String { (try? String(contentsOf: folder.appending(path: "\(name).log"), encoding: .utf8)) ?? "" }

    func restart(_ signal: Int32 = SIGTERM) throws {
        kill(signal)
        try start()
    }

    private func kill(_ signal: Int32) {
        guard let process else { return }
        Foundation.kill(process.processIdentifier, signal)
        process.waitUntilExit()
        self.process = nil
    }

    private func start() throws {
        let process = Process()
        process.executableURL = Servers.binary("holdfast-server")
        process.arguments = arguments
        let log = folder.appending(path: "\(name).log")
        if !FileManager.default.fileExists(atPath: log.path) { try Data().write(to: log) }
        let handle = try FileHandle(forWritingTo: log)
        try handle.seekToEnd()
        process.standardError = handle
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        self.process = process
        let isServing = try eventually {
            let status = Process()
            status.executableURL = Servers.binary("holdfast")
            status.arguments = ["pool", "list", "--server", address, "--timeout", "2s"]
            status.standardOutput = FileHandle.nullDevice
            status.standardError = FileHandle.nullDevice
            try status.run()
            status.waitUntilExit()
            return status.terminationStatus == 0
        }
        if !isServing { throw Failure("not serving: \(self.log)") }
    }
}
