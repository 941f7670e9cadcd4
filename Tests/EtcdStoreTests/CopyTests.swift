import Addresses
import Foundation
import IPAMModel
import Ledger
import LedgerStore
import StoreConformance
import Synchronization
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
        let other = try SQLiteStore(path: path("other.sqlite"))
        try other.fill(try example(bindings: 3))
        other.close()
        let refused = try copy(from: "sqlite:\(path("other.sqlite"))", to: cluster.store)
        #expect(refused.status == 1 && refused.text.contains("There is a ledger in etcd already"), "\(refused.text)")
        try SQLiteStore(path: path("other.sqlite")).moveAway()
        // As older programs left it where a copy back broke off before it had filled it.
        try SQLiteStore(path: path("begun.sqlite")).close()
        try FileManager.default.moveItem(atPath: path("begun.sqlite"), toPath: path("other.sqlite"))
        let begun = #expect(throws: StoreError.self) { try SQLiteStore(path: path("other.sqlite")) }
        #expect(begun?.code == .inUse && begun?.message.contains("other.sqlite.moved") == true)

        let leader = try EtcdTenure.open(cluster.configuration(prefix), as: "10.0.0.1:7440")
        let busy = try copy(from: cluster.store, to: "sqlite:\(path("b.sqlite"))")
        #expect(busy.status == 1 && busy.text.contains("The server at 10.0.0.1:7440 leads"), "\(busy.text)")
        leader.close()

        let back = try copy(from: cluster.store, to: "sqlite:\(path("a.sqlite"))")
        #expect(back.status == 0, "\(back.text)")
        let attributes = try FileManager.default.attributesOfItem(atPath: path("a.sqlite"))
        #expect(attributes[.posixPermissions] as? Int == 0o600, "nobody else's to read")
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

    /// A copy that ends with its program: before it fills the target, before it compares, before it sets the source aside, and
    /// before the target takes its place.
    @Test(arguments: 0...4, [false, true])
    func `that breaks off leaves one ledger at most, and says how to go on`(steps: Int, toEtcd: Bool) throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let snapshot = try example(bindings: 20)
        let file = path("a.sqlite")
        let countdown = Countdown(steps)
        func etcd() throws -> EtcdTenure { try EtcdTenure.open(cluster.configuration(prefix), as: "test") }
        func run() throws {
            let source: any MovableStore = try toEtcd ? SQLiteStore(path: file) : etcd()
            defer { source.close() }
            let target: any MovableStore = try toEtcd ? etcd() : SQLiteStore(copyTo: file)
            defer { target.close() }
            try Interrupted(source, countdown).move(
                try source.loadWithHistory(), to: Interrupted(target, countdown))
        }
        let source: any MovableStore = try toEtcd ? SQLiteStore(path: file) : etcd()
        try source.fill(snapshot)
        if !toEtcd { try source.takePlace() }
        source.close()

        if steps < 4 { #expect(throws: StoreError.self) { try run() } } else { try run() }
        let inFile = revision { try SQLiteStore(path: file) }
        let inEtcd = revision(etcd)
        let (before, after) = toEtcd ? (inFile, inEtcd) : (inEtcd, inFile)
        #expect(before == (steps < 3 ? .success(snapshot.revision) : .failure(.inUse)))
        switch steps {
        case 0 where toEtcd: #expect(after == .success(0), "empty as it was")
        case 0..<4: #expect(after == .failure(toEtcd ? .damaged : .inUse))
        default: #expect(after == .success(snapshot.revision))
        }
        // What they say is to be done.
        countdown.left.store(.max, ordering: .relaxed)
        switch steps {
        case 0..<3:
            if toEtcd { try cluster.ctl("del", "--prefix", prefix) }
            try run()
        case 3 where toEtcd:
            try FileManager.default.moveItem(atPath: file + ".moved", toPath: file)
            try cluster.ctl("del", "--prefix", prefix)
            try run()
        case 3: try FileManager.default.moveItem(atPath: file + ".copy", toPath: file)
        default: break
        }
        #expect((toEtcd ? revision(etcd) : revision { try SQLiteStore(path: file) }) == .success(snapshot.revision))
    }

    /// Of the ledger that is opened; why none is.
    private func revision(_ open: () throws -> any LedgerStore) -> Result<UInt64, Refusal> {
        do {
            let store = try open()
            defer { store.close() }
            return .success(try store.load().revision)
        } catch {
            return .failure(Refusal(code: (error as? StoreError)?.code))
        }
    }
}

private struct Refusal: Error, Equatable {
    static let inUse = Refusal(code: .inUse)
    static let damaged = Refusal(code: .damaged)
    let code: StoreError.Code?
}

/// How many steps are still done.
private final class Countdown: Sendable {
    let left: Atomic<Int>

    init(_ steps: Int) { left = Atomic(steps) }

    func step() throws(StoreError) {
        if left.subtract(1, ordering: .relaxed).oldValue <= 0 { throw StoreError(.failed, "the program ends here") }
    }
}

/// A store of a program that ends before one of the steps of a copy.
private final class Interrupted: MovableStore, StoreInFront {
    private let movable: any MovableStore
    var store: any LedgerStore { movable }
    private let countdown: Countdown

    init(_ store: any MovableStore, _ countdown: Countdown) {
        movable = store
        self.countdown = countdown
    }

    func fill(_ snapshot: Snapshot) throws(StoreError) {
        try countdown.step()
        try store.fill(snapshot)
    }
    func load() throws(StoreError) -> Snapshot {
        try countdown.step()
        return try store.load()
    }
    func moveAway() throws(StoreError) {
        try countdown.step()
        try movable.moveAway()
    }
    func takePlace() throws(StoreError) {
        try countdown.step()
        try movable.takePlace()
    }
}
