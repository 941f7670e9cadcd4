import FoundationEssentials
import Glibc
package import IPAMModel
package import Logging
import Synchronization

/// What the server must still be told, in order: durable, so that the plugin can be told that it is done.
package final class Spool: Sendable {
    package enum Entry: Hashable, Sendable, Codable {
        /// A pod's sandbox is gone: found by its container's ID.
        case detach(AttachmentID, network: String)
        /// A pod was given its VM's addresses from this node's copy.
        case attach(AllocateRequest)

        /// Of whom it speaks: entries that have one in common are told in their order.
        var subjects: Set<String> {
            switch self {
            case .detach(let id, let network): ["\(id.containerID) \(network)"]
            case .attach(let request):
                ["\(request.attachment?.containerID ?? "") \(request.owner.network)", "\(request.owner.key)"]
            }
        }
    }

    package struct Item: Hashable, Sendable, Codable {
        package var number: UInt64
        package var entry: Entry
        /// In seconds since 1970, by the wall clock; nil where an older agent wrote it.
        package var addedAt: Int64?
    }

    /// A line of the file.
    private enum Line: Codable {
        case added(Item)
        case done(UInt64)
    }

    /// What is understood of an entry of a kind that only a newer agent knows.
    private struct NewerLine: Decodable {
        struct Added: Decodable { var _0: Numbered }
        struct Numbered: Decodable { var number: UInt64 }
        var added: Added
    }

    private struct State {
        /// By number.
        private(set) var items: [UInt64: Item] = [:]
        /// Of each subject, the number of the last item that speaks of it.
        private var last: [String: UInt64] = [:]
        private(set) var attachments: [OwnerKey: Int] = [:]
        /// By the container's ID.
        private(set) var detachments: [String: Int] = [:]
        var lastNumber: UInt64 = 0
        /// Lines that a newer agent wrote, kept as they are for the next one; with an entry's number.
        private(set) var newer: [(number: UInt64?, line: [UInt8])] = []
        /// Lines that say no more than what is known, of those since the file was last to be written anew.
        var stale = 0
        /// Whether the file does not have it that something was told.
        var isBehind = false

        var inOrder: [Item] { items.values.sorted { $0.number < $1.number } }

        /// What was said last of those that this entry speaks of.
        func last(before entry: Entry) -> Entry? {
            entry.subjects.compactMap { last[$0] }.max().flatMap { items[$0]?.entry }
        }

        mutating func append(_ item: Item) {
            items[item.number] = item
            lastNumber = max(lastNumber, item.number)
            for subject in item.entry.subjects { last[subject] = item.number }
            count(item.entry, 1)
        }

        mutating func keep(_ line: [UInt8]) {
            let number = (try? JSONDecoder().decode(NewerLine.self, from: Data(line)))?.added._0.number
            newer.append((number, line))
            lastNumber = max(lastNumber, number ?? 0)
        }

        mutating func remove(_ number: UInt64) {
            newer.removeAll { $0.number == number }
            guard let entry = items.removeValue(forKey: number)?.entry else { return }
            for subject in entry.subjects where last[subject] == number { last[subject] = nil }
            count(entry, -1)
        }

        private mutating func count(_ entry: Entry, _ change: Int) {
            func changed(_ count: Int?) -> Int? { (count ?? 0) + change == 0 ? nil : (count ?? 0) + change }
            switch entry {
            case .attach(let request): attachments[request.owner.key] = changed(attachments[request.owner.key])
            case .detach(let id, _): detachments[id.containerID] = changed(detachments[id.containerID])
            }
        }
    }

    /// Stale lines that the file is written anew for, where they are more than the others; it is emptied whenever nothing is left
    /// to tell.
    private static let staleLimit = 1000

    private let file: JournalFile
    private let limit: Int
    private let log: Logger
    private let state = Mutex(State())
    /// Yields when there is something to tell, at once.
    package let wakes: AsyncStream<Void>
    private let wake: AsyncStream<Void>.Continuation
    private let wallClock: @Sendable () -> Int64

    /// `limit`: how many entries it takes: pods that cannot start without the server make and lose sandbox after sandbox.
    /// `wallClock`: seconds since 1970, for the entries' ages only. `sync`: the file's, see there.
    package init(
        path: String, limit: Int = 50_000, log: Logger,
        wallClock: @escaping @Sendable () -> Int64 = { Int64(time(nil)) },
        sync: @escaping @Sendable (CInt) -> CInt = { fsync($0) }
    ) throws(JournalError) {
        self.limit = limit
        self.log = log
        self.wallClock = wallClock
        (wakes, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        var lines: [[UInt8]] = []
        file = try JournalFile(path: path, log: log, lines: &lines, sync: sync)
        var state = State()
        for line in lines {
            switch try? JSONDecoder().decode(Line.self, from: Data(line)) {
            case .added(var item):
                item.addedAt = item.addedAt ?? wallClock()
                state.append(item)
            case .done(let number):
                state.remove(number)
                state.stale += 2
            case nil: state.keep(line)
            }
        }
        if !state.newer.isEmpty {
            log.warning(
                "lines of the spool are a newer agent's: they are kept until one tells the server",
                metadata: ["file": "\(path)", "lines": "\(state.newer.count)"])
        }
        self.state.withLock { $0 = state }
        if !state.items.isEmpty {
            log.notice(
                "the server must still be told of what happened while it was away",
                metadata: ["entries": "\(state.items.count)"])
            wake.yield()
        }
    }

    package var path: String { file.path }
    /// As they were added.
    package var items: [Item] { state.withLock { $0.inOrder } }
    package var isEmpty: Bool { state.withLock { $0.items.isEmpty } }

    /// How many entries there are, and how old the oldest is, in seconds; 0 where there is none or the clock went back.
    package var extent: (count: Int, oldest: Int64) {
        let (count, oldest) = state.withLock { ($0.items.count, $0.items.values.compactMap(\.addedAt).min()) }
        return (count, oldest.map { max(0, wallClock() - $0) } ?? 0)
    }

    /// Whether a pod of this owner was attached of which the server does not know yet.
    package func hasAttachment(of owner: OwnerKey) -> Bool {
        state.withLock { $0.attachments[owner] != nil }
    }

    /// Whether the server does not know yet that this sandbox is gone.
    package func hasDetachment(of containerID: String) -> Bool {
        state.withLock { $0.detachments[containerID] != nil }
    }

    /// On disk when this returns. The same entry once more, with nothing about the same pod in between, is kept once.
    package func add(_ entry: Entry) throws(JournalError) {
        try state.withLock { state throws(JournalError) in
            if state.last(before: entry) == entry { return }
            guard state.items.count < limit else {
                throw JournalError("\(path) has \(limit) entries that the server must be told, and takes no more")
            }
            let item = Item(number: state.lastNumber + 1, entry: entry, addedAt: wallClock())
            try file.append(Self.encode(.added(item)), isDurable: true)
            state.append(item)
        }
        wake.yield()
    }

    /// The server knows. A crash before this is on disk tells it again, which changes nothing so soon (promises 4 and 5).
    package func finish(_ item: Item) {
        state.withLock { state in
            state.remove(item.number)
            state.stale += 2
            let isAllTold = state.items.isEmpty && state.newer.isEmpty
            if isAllTold || state.stale > max(Self.staleLimit, state.items.count), shorten(&state) { return }
            do throws(JournalError) {
                try file.append(Self.encode(.done(item.number)), isDurable: false)
            } catch {
                if !state.isBehind {
                    log.warning(
                        "the spool cannot be shortened; trying on: an agent that starts meanwhile tells some things again",
                        metadata: ["error": "\(error)"])
                }
                state.isBehind = true
            }
        }
    }

    /// Writes what `finish` could not; false where it cannot be written yet. What was told long ago would be told again by the
    /// next agent, when the pod that it speaks of may be gone.
    package func settle() -> Bool { state.withLock { !$0.isBehind || shorten(&$0) } }

    /// False where the file stays as it is.
    private func shorten(_ state: inout State) -> Bool {
        state.stale = 0
        do throws(JournalError) {
            if state.items.isEmpty, state.newer.isEmpty {
                try file.empty()
            } else {
                let lines = state.newer.map(\.line) + state.inOrder.map { Self.encode(.added($0)) }
                try file.replace(with: lines, isDurable: true)
            }
            state.isBehind = false
            return true
        } catch {
            return false
        }
    }

    private static func encode(_ line: Line) -> [UInt8] {
        // Encoding what has neither floating-point numbers nor dates cannot fail.
        (try? JSONEncoder().encode(line)).map(Array.init) ?? []
    }
}
