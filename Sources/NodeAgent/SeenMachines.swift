import FoundationEssentials
package import Logging
import Synchronization

/// The machines that this node's agents have seen in a directory of manifests, in a file: so that one which is deleted while no
/// agent runs is missed.
package final class SeenMachines: Sendable {
    /// A line of the file.
    private enum Line: Codable {
        /// The first: what another directory does not show is not gone.
        case directory(String)
        case seen(MachineReference)
    }

    private struct State {
        var machines: Set<MachineReference> = []
        var isFailing = false
    }

    private let file: JournalFile
    private let directory: String
    private let log: Logger
    private let state: Mutex<State>

    package init(path: String, directory: String, log: Logger) throws(JournalError) {
        self.directory = directory
        self.log = log
        var lines: [[UInt8]] = []
        file = try JournalFile(path: path, log: log, lines: &lines)
        var machines: Set<MachineReference> = []
        var isThisDirectory = false
        for line in lines {
            switch try? JSONDecoder().decode(Line.self, from: Data(line)) {
            case .directory(let name): isThisDirectory = name == directory
            case .seen(let machine): if isThisDirectory { machines.insert(machine) }
            case nil: log.warning("a seen VM of another version is forgotten", metadata: ["file": "\(path)"])
            }
        }
        state = Mutex(State(machines: machines))
    }

    package var all: Set<MachineReference> { state.withLock { $0.machines } }

    /// Writes the file anew where it has others; without it they are known to this agent only.
    package func keep(_ machines: Set<MachineReference>) {
        state.withLock { state in
            guard state.machines != machines else { return }
            do throws(JournalError) {
                let lines = [Line.directory(directory)] + machines.map(Line.seen)
                try file.replace(with: lines.map(Self.encode), isDurable: true)
                state = State(machines: machines)
            } catch {
                if !state.isFailing {
                    log.warning(
                        "which VMs were seen cannot be kept; trying on: one that is deleted while no agent runs is not missed",
                        metadata: ["error": "\(error)"])
                }
                state.isFailing = true
            }
        }
    }

    private static func encode(_ line: Line) -> [UInt8] { (try? JSONEncoder().encode(line)).map(Array.init) ?? [] }
}
