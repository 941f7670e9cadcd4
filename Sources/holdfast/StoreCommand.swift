import ArgumentParser
import EtcdStore
import Foundation
import IPAMModel
import Ledger
import LedgerStore
import Logging
import Program
import StoreOptions

struct StoreCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "store", abstract: "Moves the ledger itself, with the servers stopped.",
        subcommands: [StoreCopy.self])
}

/// Works on the stores, not through a server.
struct StoreCopy: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "copy",
        abstract: "Copies a whole ledger into a store that has none yet, and compares the two.",
        discussion: """
            Stop all servers of both stores first; while one runs, nothing is copied. What was in SQLite is then called \
            PATH.moved, and in etcd its revision key says that it went, so that no server goes on with it by mistake. A copy that \
            breaks off leaves one ledger at most; where it leaves none, what a server says that is started on either store \
            tells what to do. Example:

            holdfast store copy --from sqlite:/var/lib/holdfast/ledger.sqlite --to etcd:http://10.0.0.1:2379
            """)

    @Option(help: "sqlite:PATH, or etcd:URL,URL,…")
    var from: StoreName

    @Option(help: "sqlite:PATH, or etcd:URL,URL,…: without a ledger.")
    var to: StoreName

    @OptionGroup(title: "etcd") var etcd: EtcdOptions

    func validate() throws {
        switch (from, to) {
        case (.etcd, .etcd):
            throw ValidationError("both stores are in etcd: use etcdctl snapshot, or copy by way of sqlite:PATH")
        case (.sqlite(let source), .sqlite(let target)) where Self.file(source) == Self.file(target):
            throw ValidationError("--from and --to are the same file")
        default: break
        }
    }

    private static func file(_ path: String) -> URL {
        URL(filePath: path).standardizedFileURL.resolvingSymlinksInPath()
    }

    func run() async throws {
        // The ledger is nobody else's to read.
        umask(0o077)
        // Opened it would be made.
        if case .sqlite(let path) = from, !FileManager.default.fileExists(atPath: path) {
            throw Failure("--from sqlite:\(path): there is no such file")
        }
        let summary: String
        do throws(StoreError) {
            let source = try open(from, "--from")
            defer { source.close() }
            let snapshot = try source.loadWithHistory()
            do throws(IPAMError) {
                _ = try Ledger(snapshot)
            } catch { throw StoreError(.damaged, error.message) }
            let target = try open(to, "--to", isTarget: true)
            defer { target.close() }
            try source.move(snapshot, to: target)
            let whereabouts =
                switch from {
                case .sqlite(let path): "the source is called \(path).moved now"
                case .etcd: "what is left in etcd says that it went, and no server takes it for a ledger"
                }
            let counts = BackupFile.Counts(
                pools: UInt64(snapshot.pools.count), bindings: UInt64(snapshot.bindings.count),
                freed: UInt64(snapshot.freed.count), history: UInt64(snapshot.history.count))
            summary = "copied and compared: \(counts.text), revision \(snapshot.revision); \(whereabouts)"
        } catch {
            throw Failure("\(error)")
        }
        try StandardOutput.write(summary)
    }

    private func open(
        _ name: StoreName, _ option: String, isTarget: Bool = false
    ) throws(StoreError) -> any MovableStore {
        switch name {
        case .sqlite(let path):
            do throws(StoreError) {
                return try isTarget ? SQLiteStore(copyTo: path) : SQLiteStore(path: path)
            } catch {
                // The store knows the server's option only.
                throw StoreError(error.code, error.message.replacing("--store", with: option))
            }
        case .etcd(let urls):
            let configuration: EtcdConfiguration
            do {
                configuration = try etcd.configuration(urls: urls, log: .ofCommand).configuration
            } catch { throw StoreError(.failed, "\(error)") }
            return try EtcdTenure.open(configuration, as: "holdfast store copy on \(ProcessInfo.processInfo.hostName)")
        }
    }
}
