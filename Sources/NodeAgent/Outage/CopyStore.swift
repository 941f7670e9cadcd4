import FoundationEssentials
package import IPAMAPI
package import IPAMModel
package import Logging
import Synchronization
import Telemetry

/// The copies of this node, in memory and in a file that outlives the agent. It need not outlive a power cut: after that
/// every copy is too old, and the next renewal brings it up to date. Nor need it hold what was kept a moment before the
/// agent was killed: whoever has no copy asks the server.
package final class CopyStore: Sendable {
    /// A line of the file.
    private enum Line: Codable {
        /// The first: of which run of the kernel the times are.
        case boot(String)
        case kept(Copy)
        case dropped(Owner)
    }

    private struct State {
        var copies: [OwnerKey: Copy] = [:]
        /// When a copy of this owner was dropped: an answer to what was asked before comes late.
        var dropped: [OwnerKey: Int64] = [:]
        /// Of which drops the server must still be told.
        var untold: [OwnerKey: DroppedCopy] = [:]
        /// Whose copies were kept since the file was last written.
        var unsaved: Set<OwnerKey> = []
        /// That the file cannot be written.
        var complaint = Complaint()
    }

    /// No answer comes later than this: longer than any call's time-out, in nanoseconds.
    private static let lateAnswer: Int64 = 120_000_000_000

    private let file: JournalFile
    private let clock: NodeClock
    private let log: Logger
    private let state = Mutex(State())

    package init(path: String, clock: NodeClock, log: Logger) throws(JournalError) {
        self.clock = clock
        self.log = log
        var lines: [[UInt8]] = []
        file = try JournalFile(path: path, log: log, lines: &lines)
        var copies: [OwnerKey: Copy] = [:]
        var isThisBoot = false
        for line in lines {
            switch try? JSONDecoder().decode(Line.self, from: Data(line)) {
            case .boot(let id): isThisBoot = id == clock.bootID && !id.isEmpty
            case .kept(var copy):
                if !isThisBoot { copy.word = nil }
                copies[copy.owner.key] = copy
            case .dropped(let owner): copies[owner.key] = nil
            case nil: log.warning("a copy of another version is not used", metadata: ["file": "\(path)"])
            }
        }
        state.withLock { state in
            state.copies = copies
            writeAnew(&state)
        }
    }

    package var all: [Copy] { state.withLock { Array($0.copies.values) } }

    package func copy(for owner: OwnerKey) -> Copy? { state.withLock { $0.copies[owner] } }

    /// Keeps what the server answered to a request sent at `sent`, where it may be kept: in memory, until `save`.
    package func keep(_ described: DescribedBinding, sent: Int64) {
        state.withLock { state in
            let key = described.binding.owner.key
            if let dropped = state.dropped[key], sent <= dropped { return }
            if let known = state.copies[key]?.word, known > sent { return }
            // Where there must be none, the next renewal says so of an older one.
            guard let copy = Copy(described, word: sent) else { return }
            state.copies[key] = copy
            state.untold[key] = nil
            state.unsaved.insert(key)
        }
    }

    /// Writes what was kept to the file. Apart from keeping, so that no plugin waits for it.
    package func save() {
        state.withLock { state in
            for key in state.unsaved { if let copy = state.copies[key] { save(.kept(copy), &state) } }
            state.unsaved = []
        }
    }

    /// Those of which the server waits to hear that they are dropped.
    package var dropped: [DroppedCopy] { state.withLock { Array($0.untold.values) } }

    /// The server has heard it.
    package func told(of dropped: [DroppedCopy]) {
        state.withLock { state in
            for drop in dropped where state.untold[drop.owner.key] == drop { state.untold[drop.owner.key] = nil }
        }
    }

    /// Takes over what a renewal sent at `sent` brought.
    package func renew(_ answers: [(copy: Copy, answer: RenewedCopy)], sent: Int64) {
        state.withLock { state in
            let oldest = clock.now() - Self.lateAnswer
            state.dropped = state.dropped.filter { $0.value > oldest }
            for (asked, answer) in answers {
                let key = asked.owner.key
                // One that was kept since, by a later request, is none of this answer's business.
                guard var copy = state.copies[key], copy.word ?? .min <= sent else { continue }
                if let validFor = answer.validFor {
                    if var binding = answer.binding {
                        binding.copyValidFor = validFor
                        if let renewed = Copy(binding, word: sent) { state.copies[key] = renewed }
                    } else if copy.revision == asked.revision {
                        (copy.validFor, copy.word) = (validFor, sent)
                        state.copies[key] = copy
                    }
                } else {
                    state.copies[key] = nil
                    state.dropped[key] = clock.now()
                    // Else it would be there again after a restart, and the server must not think that it is gone.
                    if save(.dropped(asked.owner), &state), answer.ticket != 0 {
                        state.untold[key] = DroppedCopy(owner: asked.owner, ticket: answer.ticket)
                    }
                }
            }
            writeAnew(&state)
        }
    }

    /// Without the file the copies are in memory, and serve as well until the agent ends.
    private func writeAnew(_ state: inout State) {
        do throws(JournalError) {
            try file.replace(with: Self.lines(state.copies.values, clock), isDurable: false)
            (state.unsaved, state.complaint) = ([], Complaint())
        } catch {
            complain(error, &state)
        }
    }

    @discardableResult
    private func save(_ line: Line, _ state: inout State) -> Bool {
        do throws(JournalError) {
            try file.append(Self.encode(line), isDurable: false)
            return true
        } catch {
            complain(error, &state)
            return false
        }
    }

    /// The log may be on the same disk.
    private func complain(_ error: JournalError, _ state: inout State) {
        guard let failed = state.complaint.count() else { return }
        log.warning("the copies' file is not up to date", metadata: ["error": "\(error)", "failed": "\(failed)"])
    }

    private static func lines(_ copies: some Sequence<Copy>, _ clock: NodeClock) -> [[UInt8]] {
        [encode(.boot(clock.bootID))] + copies.map { encode(.kept($0)) }
    }

    private static func encode(_ line: Line) -> [UInt8] { (try? JSONEncoder().encode(line)).map(Array.init) ?? [] }
}
