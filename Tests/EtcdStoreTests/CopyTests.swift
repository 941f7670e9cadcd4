import Addresses
import Foundation
import IPAMModel
import Ledger
import LedgerStore
import StoreConformance
import Testing

@testable import EtcdStore

/// The real `holdfast store copy`.
@Suite(.serialized, .enabled(if: EtcdCluster.isInstalled)) struct `A ledger's copy` {
    private static let cluster = Result { try EtcdCluster() }

    private let cluster: EtcdCluster
    private let prefix = "/holdfast/\(UUID())/"
    private let folder: URL

    init() throws {
        cluster = try Self.cluster.get()
        folder = FileManager.default.temporaryDirectory.appending(path: "holdfast-copy-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    private func path(_ name: String) -> String { folder.appending(path: name).path }

    private func copy(from: String, to: String) throws -> (status: Int32, text: String) {
        let process = Process()
        process.executableURL = Servers.binary("holdfast")
        process.arguments = [
            "store", "copy", "--from", from, "--to", to, "--etcd-prefix", prefix, "--etcd-lease", "30",
        ]
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, text)
    }

    /// A ledger of a pool with bindings and freed addresses, made by the rules.
    private func example(bindings: Int) throws -> Snapshot {
        var ledger = Ledger()
        let now = Timestamp(seconds: 1_800_000_000)
        guard let prefix = IPPrefix("10.16.0.0/16") else { throw Failure("no prefix") }
        let pool = Pool(name: "vm-net", prefixes: [PoolPrefix(prefix: prefix)], isDefault: true)
        _ = try ledger.apply(.createPool(pool), at: now)
        for number in 0..<bindings {
            let owner = Owner(
                kind: .virtualMachine, namespace: "prod", name: "vm-\(number)", uid: "u-\(number)", network: "n/eth0")
            _ = try ledger.apply(.allocate(AllocateRequest(owner: owner)), at: now)
            if number % 5 == 0 { _ = try ledger.apply(.release(.binding(owner)), at: now) }
        }
        ledger.commit()
        return ledger.snapshot
    }

    @Test func `goes to etcd and back, the same`() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let snapshot = try example(bindings: 5000)
        let source = try SQLiteStore(path: path("a.sqlite"))
        try source.fill(snapshot)
        #expect(try copy(from: "sqlite:\(path("a.sqlite"))", to: cluster.store).text.contains("error:"))
        source.close()

        let there = try copy(from: "sqlite:\(path("a.sqlite"))", to: cluster.store)
        #expect(there.status == 0, "\(there.text)")
        #expect(there.text.hasPrefix("copied and compared: 1 pool, 4000 bindings, 1000 freed addresses"))
        let moved = #expect(throws: StoreError.self) { try SQLiteStore(path: path("a.sqlite")) }
        #expect(moved?.code == .inUse && moved?.message.contains("a.sqlite.moved") == true)
        let gone = try copy(from: "sqlite:\(path("a.sqlite"))", to: cluster.store)
        #expect(gone.status == 1 && gone.text.contains("there is no such file"), "\(gone.text)")
        // The same ledger is there: the copy before may have been broken off just then.
        let again = try copy(from: "sqlite:\(path("a.sqlite.moved"))", to: cluster.store)
        #expect(again.status == 0 && again.text.contains("a.sqlite.moved.moved"), "\(again.text)")
        let other = try SQLiteStore(path: path("other.sqlite"))
        try other.fill(try example(bindings: 3))
        other.close()
        let refused = try copy(from: "sqlite:\(path("other.sqlite"))", to: cluster.store)
        #expect(refused.status == 1 && refused.text.contains("There is a ledger in etcd already"), "\(refused.text)")
        try SQLiteStore(path: path("other.sqlite")).moveAway()
        // As a copy back leaves it that breaks off before it has filled it.
        try SQLiteStore(path: path("other.sqlite"), comesBack: true).close()
        let begun = #expect(throws: StoreError.self) { try SQLiteStore(path: path("other.sqlite")) }
        #expect(begun?.code == .inUse && begun?.message.contains("other.sqlite.moved") == true)

        let leader = try EtcdTenure.open(cluster.configuration(prefix), as: "10.0.0.1:7440")
        let busy = try copy(from: cluster.store, to: "sqlite:\(path("b.sqlite"))")
        #expect(busy.status == 1 && busy.text.contains("The server at 10.0.0.1:7440 leads"), "\(busy.text)")
        leader.close()

        let back = try copy(from: cluster.store, to: "sqlite:\(path("a.sqlite"))")
        #expect(back.status == 0, "\(back.text)")
        let left = #expect(throws: StoreError.self) { try EtcdTenure.open(cluster.configuration(prefix), as: "test") }
        #expect(left?.code == .inUse && left?.message.contains("copied to SQLite") == true, "\(left?.message ?? "")")
        let copy = try SQLiteStore(path: path("a.sqlite"))
        let found = try copy.load()
        copy.close()
        #expect(found.revision == snapshot.revision)
        #expect(Set(found.pools) == Set(snapshot.pools))
        #expect(Set(found.bindings) == Set(snapshot.bindings))
        #expect(Set(found.freed) == Set(snapshot.freed))
    }
}
