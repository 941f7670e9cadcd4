import Dispatch
import EtcdStore
import IPAMModel
import Ledger
import LedgerStore
import Logging
import StoreConformance
import Synchronization

/// The store of a member of an etcd ledger that is alone, and so leads; its end is the end of the member.
final class LeadingStore: StoreInFront {
    private let ledger: EtcdLedger
    private let tenure: any LedgerStore
    /// As the follower had it when it took over.
    let warm: Ledger

    /// Returns once it leads.
    init(_ configuration: EtcdConfiguration, address: String = "127.0.0.1:1") throws {
        ledger = try EtcdLedger(configuration, logger: quiet)
        ledger.start(advertising: address)
        let elected = Mutex<(Ledger, any LedgerStore)?>(nil)
        let failure = Mutex<String?>(nil)
        let isDone = DispatchSemaphore(value: 0)
        Task { [roles = ledger.roles] in
            for await role in roles {
                switch role {
                case .leading(let ledger, let store):
                    elected.withLock { $0 = (ledger.take(), store) }
                    isDone.signal()
                    return
                case .failing(let reason):
                    failure.withLock { $0 = reason }
                    isDone.signal()
                    return
                case .following: continue
                }
            }
        }
        _ = isDone.wait(timeout: .now() + 60)
        guard let found = elected.withLock({ $0 }) else {
            ledger.close()
            throw Failure(failure.withLock { $0 } ?? "not elected within 60 s")
        }
        (warm, tenure) = found
    }

    var store: any LedgerStore { tenure }
    func close() { ledger.close() }
}

/// What a member of an etcd ledger says that it is.
final class Roles: Sendable {
    private let newest = Mutex("")

    init(of ledger: EtcdLedger) {
        Task { [self, roles = ledger.roles] in
            for await role in roles {
                let text =
                    switch role {
                    case .leading: "leading"
                    case .following(let leader): "following \(leader ?? "nobody")"
                    case .failing(let reason): "failing: \(reason)"
                    }
                newest.withLock { $0 = text }
            }
        }
    }

    var last: String { newest.withLock { $0 } }
}

let quiet: Logger = {
    var logger = Logger(label: "test")
    logger.logLevel = .error
    return logger
}()
