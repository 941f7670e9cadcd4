import Foundation
import IPAMAPI
import IPAMModel
import Testing

/// Servers whose wall clocks differ by days, and jump while they work: Debian's `faketime` stands between them and the clock.
@Suite(
    .serialized, .enabled(if: EtcdCluster.isInstalled),
    .enabled(if: JumpingClock.library != nil, "needs libfaketime (Debian's faketime)"))
struct `Servers whose clocks jump` {
    private let clocks: [JumpingClock]
    private let trial: Trial
    private var servers: Servers { trial.servers }

    init() throws {
        let cluster = try EtcdCluster(members: 3)
        clocks = try ["+0", "+3d", "-3d"].map { try JumpingClock(in: cluster.folder, offset: $0) }
        trial = Trial(cluster, try Servers(cluster, places: clocks.map { Servers.Place(environment: $0.environment) }))
    }

    @Test func `serve on, give no freed address early, and write no time that goes back`() async throws {
        let client = try IPAMClient(server: servers.list)
        func owner(_ name: String) -> Owner {
            Owner(kind: .virtualMachine, namespace: "clocks", name: name, uid: name, network: "n/eth0")
        }
        var latest = Timestamp(nanoseconds: 0)
        var number = 0
        /// A binding that is made now, and the one that must wait.
        func look(after jump: String) async throws {
            number += 1
            let made = try await client.allocate(
                AllocateRequest(owner: owner("vm-\(number)")), timeout: .seconds(60)
            ).binding.binding
            #expect(made.createdAt >= latest, "after \(jump)")
            latest = made.updatedAt
            // One address, which was freed a moment ago.
            let early = await #expect(throws: IPAMError.self, "after \(jump)") {
                try await client.allocate(
                    AllocateRequest(owner: owner("early"), pool: "waiting"), timeout: .seconds(60))
            }
            #expect(early?.code == .resourceExhausted, "after \(jump)")
        }
        try await trial.underLoad { load in
            _ = try await client.allocate(
                AllocateRequest(owner: owner("first"), pool: "waiting"), timeout: .seconds(60))
            _ = try await client.release(.binding(owner("first")), timeout: .seconds(60))
            for offset in ["+1h", "-1h", "+400d", "-400d", "+0"] {
                for clock in clocks { try clock.jump(to: offset) }
                try trial.waitForAnswers(100, load)
                try await look(after: offset)
                // To one whose clock said something else when it began to follow.
                let leader = try servers.waitForLeader()
                servers.kill(leader, SIGTERM)
                _ = try servers.waitForLeader(other: leader)
                try await look(after: "\(offset), and another leader")
                try servers.start(leader)
            }
        }
        await client.close()
    }
}

/// A wall clock of one process's own. Others, by which time is measured and not told, are the machine's.
struct JumpingClock {
    static let library: String? = {
        let folder = "/usr/lib"
        let triples = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return triples.map { "\(folder)/\($0)/faketime/libfaketimeMT.so.1" }.first {
            FileManager.default.fileExists(atPath: $0)
        }
    }()

    private let file: URL

    init(in folder: URL, offset: String) throws {
        file = folder.appending(path: "clock-\(UUID())")
        try jump(to: offset)
    }

    var environment: [String: String] {
        [
            "LD_PRELOAD": Self.library ?? "", "FAKETIME_TIMESTAMP_FILE": file.path, "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1",
        ]
    }

    /// `+3d`, `-1h`: as far from the machine's.
    func jump(to offset: String) throws { try Data("\(offset)\n".utf8).write(to: file, options: .atomic) }
}
