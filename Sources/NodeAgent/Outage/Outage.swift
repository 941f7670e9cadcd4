package import IPAMAPI
package import Logging
package import ServiceLifecycle

/// What the agent needs to go on without its server: the spool, the copies, and whether the server answers.
package struct Outage: Sendable {
    package let spool: Spool
    package let copies: CopyStore
    package let reach = ServerReach()
    package let clock: NodeClock
    /// For how long an ADD tries on once its server is away: over a restart of the server, and then the runtime is told,
    /// which tries again by itself.
    package var ride = Duration.milliseconds(2_500)

    /// Opens or makes the files in `directory`, which is root's alone.
    package init(directory: String, clock: NodeClock = .system, log: Logger) throws(JournalError) {
        self.clock = clock
        spool = try Spool(path: directory + "/spool", log: log)
        copies = try CopyStore(path: directory + "/copies", clock: clock, log: log)
    }

    /// Whether an ADD of some VM could be served without the server now.
    package var servesKnownMachines: Bool {
        let now = clock.now()
        return copies.all.contains { $0.isFresh(at: now) }
    }

    /// What tells and asks the server in the background; `ipam` is one that `reach` observes.
    package func services(node: String, ipam: some IPAMCalls & CopyCalls, log: Logger) -> [any Service] {
        [
            SpoolReplay(node: node, ipam: ipam, spool: spool, copies: copies, clock: clock, log: log),
            CopyRenewal(node: node, ipam: ipam, copies: copies, spool: spool, clock: clock, log: log),
        ]
    }
}
