import DHCP
package import Logging
import Synchronization
package import Syscalls

/// The ports of all guests on this node, served by one thread.
package final class GuestPorts: Sendable {
    /// How often it is looked whether pods' namespaces are still there, and what could not be opened is tried again.
    private static let inspection = Duration.seconds(10)
    /// How often guests are told what they would else forget: RFC 4861's interval by default; its longest is 1800 s.
    private static let advertisement = Duration.seconds(600)

    fileprivate struct State: Sendable {
        var ports: [PortRecord.Key: GuestPort] = [:]
        /// Those that could not be opened yet.
        var unopened: [PortRecord.Key: PortRecord] = [:]
        /// Those whose records could not be written yet.
        var unsaved: Set<PortRecord.Key> = []
        /// Whose failure was logged.
        var failing: Set<PortRecord.Key> = []
        /// What was logged of a port already: a guest that asks and asks does not fill the log.
        var told: [PortRecord.Key: Set<Responder.Event>] = [:]
        var announcements = AnnouncementQueue<PortRecord.Key>()
        var isStopped = false
        var inspectAt = ContinuousClock.now + GuestPorts.inspection
        var advertiseAt = ContinuousClock.now + GuestPorts.advertisement
    }

    private let state = Mutex(State())
    private let waiting: Waiting
    private let folder: PortFolder
    private let log: Logger
    private let metrics: AgentMetrics

    /// Raises the process's limit of descriptors as far as it may: each port has some.
    package init(
        folder: PortFolder, log: Logger, metrics: AgentMetrics = AgentMetrics()
    ) throws(SystemError) {
        self.folder = folder
        self.log = log
        self.metrics = metrics
        DescriptorLimit.raise()
        waiting = try Waiting()
    }

    /// Opens the ports that an agent before this one served, and forgets those whose pods are gone.
    package func restore() {
        let (records, unreadable) = folder.load()
        for name in unreadable { log.warning("a port's record cannot be read", metadata: ["file": "\(name)"]) }
        for record in records {
            guard !record.isGone else {
                folder.remove(record.key)
                continue
            }
            state.withLock { $0.unopened[record.key] = record }
        }
        state.withLock { retry(&$0) }
        waiting.wake()
    }

    private func retry(_ state: inout State) {
        for (key, record) in state.unopened {
            do throws(SystemError) {
                state.ports[key] = try GuestPort(record)
                state.unopened[key] = nil
                tellWell(key, record, &state)
            } catch {
                tell("a guest's port cannot be opened; trying on", error, key, record, &state)
            }
        }
        for key in state.ports.keys {
            if state.ports[key]?.failure != nil { state.ports[key]?.retry() }
            guard let port = state.ports[key] else { continue }
            if let failure = port.failure {
                tell("a guest's tap cannot be listened to; trying on", failure, key, port.record, &state)
            } else {
                tellWell(key, port.record, &state)
            }
        }
        for key in state.unsaved {
            guard let record = state.ports[key]?.record, (try? folder.save(record)) != nil else { continue }
            state.unsaved.remove(key)
            log.notice("a guest's port will be served by a later agent too", metadata: ["owner": "\(record.owner)"])
        }
    }

    private func tell(
        _ message: Logger.Message, _ error: SystemError, _ key: PortRecord.Key, _ record: PortRecord,
        _ state: inout State
    ) {
        guard state.failing.insert(key).inserted else { return }
        log.error(message, metadata: ["owner": "\(record.owner)", "error": "\(error)"])
    }

    private func tellWell(_ key: PortRecord.Key, _ record: PortRecord, _ state: inout State) {
        guard state.failing.remove(key) != nil else { return }
        log.notice("a guest's port is served now", metadata: ["owner": "\(record.owner)"])
    }

    /// From now on the port is served, also by an agent after this one once the disk takes its record. The same again changes
    /// nothing.
    package func attach(_ record: PortRecord) throws(SystemError) {
        guard state.withLock({ $0.ports[record.key]?.record != record }) else { return }
        let port = try GuestPort(record)
        let isSaved: Bool
        do {
            try folder.save(record)
            isSaved = true
        } catch {
            isSaved = false
            log.error(
                "a guest's port is served by this agent only: its record cannot be written; trying on",
                metadata: ["owner": "\(record.owner)", "error": "\(error)"])
        }
        state.withLock { state in
            if isSaved { state.unsaved.remove(record.key) } else { state.unsaved.insert(record.key) }
            state.ports[record.key] = port
            state.unopened[record.key] = nil
            state.failing.remove(record.key)
            state.told[record.key] = nil
        }
        waiting.wake()
    }

    package func detach(_ key: PortRecord.Key) {
        state.withLock { $0.forget(key) }
        folder.remove(key)
        waiting.wake()
    }

    /// Tells the network, a few times, that the port's addresses are here. Nothing where the port is not known.
    package func announce(_ key: PortRecord.Key) {
        state.withLock { state in
            if state.ports[key] != nil { state.announcements.add(key, at: .now) }
        }
        waiting.wake()
    }

    /// Serves until `stop`, on the caller's thread.
    package func serve() {
        while true {
            let next = state.withLock { state -> (descriptors: [CInt], until: ContinuousClock.Instant)? in
                if state.isStopped { return nil }
                let until = [state.inspectAt, state.advertiseAt, state.announcements.dueAt].compactMap(\.self).min()
                return (state.ports.values.flatMap(\.descriptors), until ?? state.inspectAt)
            }
            guard let next else { return }
            let milliseconds = (next.until - .now) / .milliseconds(1)
            _ = waiting.wait(
                for: next.descriptors, milliseconds: CInt(max(0, min(milliseconds.rounded(.up), 60_000))))
            pass(at: .now)
        }
    }

    package func stop() {
        state.withLock { $0.isStopped = true }
        waiting.wake()
    }

    func pass(at now: ContinuousClock.Instant) {
        state.withLock { state in
            for key in state.ports.keys {
                guard let events = state.ports[key]?.serve(at: now), let owner = state.ports[key]?.record.owner else {
                    continue
                }
                for event in events { tell(event, of: owner, isNew: state.isNew(event, of: key)) }
            }
            while let key = state.announcements.next(at: now) {
                guard let port = state.ports[key] else { continue }
                do {
                    if try port.announce() { continue }
                    log.notice(
                        "not announced: the guest's MAC is not known", metadata: ["owner": "\(port.record.owner)"])
                    state.announcements.remove(key)
                } catch {
                    log.warning("not announced", metadata: ["owner": "\(port.record.owner)", "error": "\(error)"])
                }
            }
            if now >= state.inspectAt {
                state.inspectAt = now + Self.inspection
                // An open socket keeps a namespace alive, and its interfaces: none may outlive its pod.
                let records = state.ports.mapValues(\.record).merging(state.unopened) { $1 }
                for (key, record) in records where record.isGone {
                    state.forget(key)
                    folder.remove(key)
                }
                retry(&state)
            }
            if now >= state.advertiseAt {
                state.advertiseAt = now + Self.advertisement
                for port in state.ports.values { port.advertise() }
            }
        }
    }

    private func tell(_ event: Responder.Event, of owner: String, isNew: Bool) {
        metrics.count(event)
        var metadata: Logger.Metadata = ["owner": "\(owner)"]
        let message: Logger.Message
        var level = Logger.Level.warning
        switch event {
        case .leased(let address):
            metadata["addresses"] = "\(address)"
            (message, level) = ("guest has its address by DHCP", .info)
        case .refused(let address):
            metadata["asked"] = "\(address)"
            message = "a guest asks for an address that is not its own; refused"
        case .foreign(let mac):
            metadata["mac"] = "\(mac)"
            message = "a guest asks with a MAC that is neither its VM's nor its binding's; not answered"
        case .declined(let address):
            metadata["addresses"] = "\(address)"
            message = "a guest declines its address: somebody else seems to use it"
        case .leftOut(let options):
            metadata["options"] = "\(options.map { "\($0.rawValue)" }.joined(separator: ","))"
            message = "DHCP options that a guest asks for are left out: its answers have no room for them"
        case .unsent: message = "an answer to a guest is lost: its tap does not take it"
        }
        log.log(level: isNew ? level : .debug, message, metadata: metadata)
    }
}

extension GuestPorts.State {
    fileprivate mutating func forget(_ key: PortRecord.Key) {
        ports[key] = nil
        unopened[key] = nil
        unsaved.remove(key)
        failing.remove(key)
        told[key] = nil
        announcements.remove(key)
    }

    /// Sixteen of each sort at most: what a guest may vary at will hides nothing else.
    fileprivate mutating func isNew(_ event: Responder.Event, of key: PortRecord.Key) -> Bool {
        told[key, default: []].count { $0.name == event.name } < 16 && told[key, default: []].insert(event).inserted
    }
}
