import Addresses
import IPAMAPI
import IPAMModel
import IPAMService
import Ledger
import LedgerStore
import Lifecycle
import Logging
import Synchronization
import Testing

/// The service in this process: the real rules and writer, with nothing on disk. Pool `vms` gives 10.16.0.2 first.
func makeLedger() async throws -> Writer {
    let writer = Writer(
        Ledger(), store: NoStore(),
        clock: LedgerClock(wallClock: Timestamp(seconds: 1_800_000_000), notBefore: Timestamp(seconds: 0)),
        logger: quiet)
    let pool = Pool(
        name: "vms",
        prefixes: [
            PoolPrefix(
                prefix: try #require(IPPrefix("10.16.0.0/16")), gateway: IPAddress("10.16.0.1"))
        ], isDefault: true)
    _ = try await writer.submit(.createPool(pool))
    return writer
}

private final class NoStore: LedgerStore {
    func load() throws(StoreError) -> Snapshot { Snapshot() }
    func commit(_ changes: [Change], revision: UInt64) throws(StoreError) {}
    func history(
        of subject: HistorySubject, before revision: UInt64, limit: Int
    ) throws(StoreError) -> [HistoryEntry] { [] }
    func history(after revision: UInt64, limit: Int) throws(StoreError) -> [HistoryEntry] { [] }
    var batching: Batching { Batching() }
    func close() {}
}

var quiet: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }

extension Writer {
    static let patience = Duration.seconds(5)

    var all: [Binding] {
        get async throws { try await bindings(matching: BindingFilter(), timeout: Self.patience) }
    }

    /// Gives the owner a binding, which `pod` on node-a carries.
    @discardableResult
    func bind(_ owner: Owner, pod: String? = nil) async throws -> Binding {
        try await allocate(
            AllocateRequest(owner: owner, attachment: pod.map { attachment($0) }), timeout: Self.patience
        ).binding.binding
    }

    /// Opens the migration of the owner's binding to `pod` on node-b.
    @discardableResult
    func prepare(_ owner: Owner, migration: String, pod: String) async throws -> Binding {
        try await transfer(
            TransferRequest(
                owner: owner, migrationUID: migration, phase: .prepare(target: attachment(pod, on: "node-b"))),
            timeout: Self.patience
        ).binding
    }
}

func attachment(_ pod: String, on node: String = "node-a") -> IPAMModel.Attachment {
    IPAMModel.Attachment(node: node, pod: pod, podUID: "uid-\(pod)", containerID: "c-\(pod)")
}

func vm(_ name: String, uid: String? = nil, network: String = "vm-net/eth0") -> Owner {
    Owner(kind: .virtualMachine, namespace: "default", name: name, uid: uid ?? "uid-\(name)", network: network)
}

func podOwner(_ name: String, uid: String? = nil) -> Owner {
    Owner(kind: .pod, namespace: "default", name: name, uid: uid ?? "uid-\(name)", network: "vm-net/eth0")
}

/// Waits until `condition` holds; fails the test after a generous time.
func eventually(
    _ what: String, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + .seconds(40)
    while try await !condition() {
        try #require(ContinuousClock.now < deadline, "\(what)", sourceLocation: sourceLocation)
        try await Task.sleep(for: .milliseconds(20))
    }
}
