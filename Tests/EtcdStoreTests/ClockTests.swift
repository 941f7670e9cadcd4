import Foundation
import IPAMAPI
import IPAMModel
import Testing

/// Servers whose wall clocks differ by days, and jump while they work.
@Suite(
    .serialized, .enabled(if: EtcdCluster.isInstalled),
    .enabled(if: JumpingClock.library != nil, "needs clang in PATH"))
struct `Servers whose clocks jump` {
    private static let (hour, day) = (3600, 24 * 3600)

    private let clocks: [JumpingClock]
    private let trial: Trial
    private var servers: Servers { trial.servers }

    init() throws {
        let cluster = try EtcdCluster(members: 3)
        clocks = try [0, 3 * Self.day, -3 * Self.day].map { try JumpingClock(in: cluster.folder, .seconds($0)) }
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
            let request = AllocateRequest(owner: owner("vm-\(number)"))
            let made = try await insist { () throws(IPAMError) in
                try await client.allocate(request, timeout: .seconds(60))
            }.binding.binding
            #expect(made.createdAt >= latest, "after \(jump)")
            latest = made.updatedAt
            // One address, which was freed a moment ago.
            let early = await #expect(throws: IPAMError.self, "after \(jump)") {
                try await insist { () throws(IPAMError) in
                    try await client.allocate(
                        AllocateRequest(owner: owner("early"), pool: "waiting"), timeout: .seconds(60))
                }
            }
            #expect(early?.code == .resourceExhausted, "after \(jump)")
        }
        try await trial.underLoad { load in
            _ = try await insist { () throws(IPAMError) in
                try await client.allocate(
                    AllocateRequest(owner: owner("first"), pool: "waiting"), timeout: .seconds(60))
            }
            _ = try await insist { () throws(IPAMError) in
                try await client.release(.binding(owner("first")), timeout: .seconds(60))
            }
            for seconds in [Self.hour, -Self.hour, 400 * Self.day, -400 * Self.day, 0] {
                let offset = Duration.seconds(seconds)
                for clock in clocks { try clock.jump(to: offset) }
                try trial.waitForAnswers(100, load)
                try await look(after: "\(offset)")
                // To one whose clock said something else when it began to follow.
                let leader = try servers.waitForLeader()
                servers.kill(leader, SIGTERM)
                _ = try servers.waitForLeader(other: leader)
                try await look(after: "\(offset), and another leader")
                try servers.start(leader)
            }
        }
        await client.close()
        // What the servers went by, as one that began 400 days ahead wrote it into its log.
        let ahead = Date(timeIntervalSinceNow: Double(400 * Self.day)).formatted(.iso8601).prefix(4)
        #expect(servers.logs.contains("\n\(ahead)-"))
    }
}

@Suite(
    .enabled(if: EtcdCluster.isInstalled), .enabled(if: JumpingClock.library != nil, "needs clang in PATH"))
struct `A leader whose clock jumps` {
    /// By the wall clock, it would wait an hour longer before the next renewal; or not at all.
    @Test func `renews its lease as before`() async throws {
        let cluster = try EtcdCluster()
        let clock = try JumpingClock(in: cluster.folder, .zero)
        let environment = clock.environment.merging(["HOLDFAST_ETCD_LEASE": "10"]) { $1 }
        let servers = try Servers(cluster, places: [Servers.Place(environment: environment)])
        try await servers.waitUntilServing()
        let lease = try #require(try servers.lease())
        /// Seconds to its end; nil once it has ended.
        func rest() throws -> Int? {
            try Int(
                cluster.ctl("lease", "timetolive", lease).components(separatedBy: "remaining(").last?.prefix {
                    $0.isNumber
                } ?? "")
        }
        for seconds in [3600, -3600] {
            try clock.jump(to: .seconds(seconds))
            // It may have begun to wait before the jump: so the second renewal counts.
            for _ in 0..<2 {
                var last = Int.max
                let isRenewed = try eventually {
                    guard let now = try rest() else { return false }
                    defer { last = now }
                    return now > last
                }
                #expect(isRenewed, "after \(seconds) s")
            }
        }
        #expect(try servers.lease() == lease)
    }
}

/// A wall clock of one process's own: a library between the program and the kernel adds what a file says. The clocks by which
/// time is measured and not told are the machine's. (libfaketime changes timers as well, which in a real jump go on.)
struct JumpingClock {
    private static let source = """
        #define _GNU_SOURCE
        #include <fcntl.h>
        #include <stdlib.h>
        #include <sys/mman.h>
        #include <sys/syscall.h>
        #include <sys/time.h>
        #include <time.h>
        #include <unistd.h>
        static volatile long long *seconds;
        __attribute__((constructor)) static void begin(void) {
            int file = open(getenv("HOLDFAST_CLOCK"), O_RDONLY);
            seconds = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
            close(file);
        }
        int clock_gettime(clockid_t clock, struct timespec *time) {
            int result = syscall(SYS_clock_gettime, clock, time);
            if (clock == CLOCK_REALTIME && seconds) time->tv_sec += *seconds;
            return result;
        }
        int gettimeofday(struct timeval *time, void *zone) {
            struct timespec now;
            clock_gettime(CLOCK_REALTIME, &now);
            time->tv_sec = now.tv_sec, time->tv_usec = now.tv_nsec / 1000;
            return 0;
        }
        time_t time(time_t *time) {
            struct timespec now;
            clock_gettime(CLOCK_REALTIME, &now);
            if (time) *time = now.tv_sec;
            return now.tv_sec;
        }
        """

    private static let folder = FileManager.default.temporaryDirectory.appending(path: "holdfast-clock-\(UUID())")

    /// Compiled, with the clang that every Swift has; nil where there is none. Gone with this process.
    static let library: URL? = {
        atexit { try? FileManager.default.removeItem(at: JumpingClock.folder) }
        let (code, library) = (folder.appending(path: "clock.c"), folder.appending(path: "clock.so"))
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["clang", "-shared", "-fPIC", "-O1", "-o", library.path, code.path]
        do {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            try Data(source.utf8).write(to: code)
            try process.run()
            process.waitUntilExit()
            return process.terminationStatus == 0 ? library : nil
        } catch { return nil }
    }()

    private let file: URL

    init(in folder: URL, _ offset: Duration) throws {
        file = folder.appending(path: "clock-\(UUID())")
        try jump(to: offset)
    }

    var environment: [String: String] {
        ["LD_PRELOAD": Self.library?.path ?? "", "HOLDFAST_CLOCK": file.path]
    }

    /// As far from the machine's as that.
    func jump(to offset: Duration) throws {
        // In place: the program has it in its memory.
        let bytes = withUnsafeBytes(of: offset.components.seconds.littleEndian) { Data($0) }
        if !FileManager.default.fileExists(atPath: file.path) { try bytes.write(to: file) }
        let handle = try FileHandle(forWritingTo: file)
        try handle.write(contentsOf: bytes)
        try handle.close()
    }
}
