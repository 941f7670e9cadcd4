import Addresses
import DHCP
import Foundation
import IPAMModel
import Logging
import Syscalls
import TestLog
import Testing

@testable import NodeAgent

struct GuestPortTests {
    private let start = ContinuousClock.now

    @Test func `a record comes back as it was, and a damaged one harms no other`() throws {
        let path = "/tmp/holdfast-test-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let folder = PortFolder(path: path)
        var guest = GuestConfiguration(mac: MACAddress(bits: 0x0200_0a10_000f))
        guest.ipv4 = DHCPv4Lease(
            address: try #require(IPAddress("10.16.0.15")), prefixLength: 16,
            router: IPAddress("10.16.0.1"),
            leaseTime: 60)
        guest.ipv4?.routes = [
            DHCPRoute(destination: try #require(IPPrefix("10.0.0.0/8")), router: try #require(IPAddress("10.16.0.2")))
        ]
        guest.ipv6 = DHCPv6Lease(address: try #require(IPAddress("fd00::15")), prefixLength: 64, leaseTime: 60)
        let record = PortRecord(
            key: PortRecord.Key(containerID: "c1", interface: "eth0"), namespace: "/run/netns/x", namespaceID: 7,
            owner: "vm default/testvm (vm-net/eth0)", guest: guest, answersDHCP: true)
        try folder.save(record)
        try Data("{\"key\":".utf8).write(to: URL(filePath: "\(path)/c2-eth0.json"))
        #expect(folder.load() == (records: [record], unreadable: ["c2-eth0.json"]))
        folder.remove(record.key)
        folder.remove(record.key)
        #expect(folder.load().records == [])
    }

    @Test(arguments: [(EMFILE, "RLIMIT_NOFILE"), (EPERM, "CAP_SYS_ADMIN"), (ENOENT, "/run/netns")])
    func `why a port cannot be opened is told with what helps`(number: CInt, remedy: String) {
        errorNumber = number
        #expect(SystemError("open a socket").remedyForPort.contains(remedy))
    }

    private final class Place {
        let scratch = "/tmp/holdfast-test-\(UUID().uuidString)"
        let name = "hf-\(UUID().uuidString.prefix(8).lowercased())"
        let folder: PortFolder

        init() throws {
            folder = PortFolder(path: scratch + "/ports")
            try Executable.run(["ip", "netns", "add", name]).requireSuccess()
        }

        deinit {
            _ = try? Executable.run(["ip", "netns", "del", name])
            try? FileManager.default.removeItem(atPath: scratch)
        }

        /// Where the agent sees the host's namespaces, or does not.
        var link: String { scratch + "/netns" }

        func show() throws {
            try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: true)
            try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "/run/netns")
        }
        func hide() throws { try FileManager.default.removeItem(atPath: link) }

        func link(_ commands: String...) throws {
            for command in commands {
                try Executable.run(["ip", "-n", name, "link"] + command.split(separator: " ").map(String.init))
                    .requireSuccess()
            }
        }

        /// The guest's tap, by whose other end, `p1`, the test is the guest.
        func plug(guest mac: MACAddress? = nil, mtu: Int = 1500, setUp: String = ":") throws {
            try link(
                "add k6t-eth0 type bridge", "add eth0-nic type veth peer name p0",
                "add tap0 mtu \(mtu) type veth peer name p1", "set eth0-nic master k6t-eth0", "set tap0 master k6t-eth0"
            )
            if let mac { try link("set p1 address \(mac)") }
            try Executable.run(["ip", "netns", "exec", name, "sh", "-c", setUp]).requireSuccess()
            try link("set tap0 up", "set p1 up")
        }

        /// A socket on an interface there, as `use` leaves it.
        func socket(
            on interface: String, _ use: @escaping @Sendable (PacketSocket, Int32) throws(SystemError) -> Void
        ) throws -> PacketSocket {
            try NetworkNamespace.inside("/run/netns/\(name)") { () throws(SystemError) in
                let (links, socket) = (try LinkSocket(), try PacketSocket())
                var table = LinkTable()
                try links.requestAll()
                while table.index(named: interface) == nil { links.read(into: &table) }
                try use(socket, table.index(named: interface) ?? 0)
                return socket
            }
        }

        func record(answersDHCP: Bool = true, guestMAC: MACAddress? = nil) throws -> PortRecord {
            var guest = GuestConfiguration(mac: MACAddress(bits: 0x0200_0a10_000f))
            guest.ipv4 = DHCPv4Lease(address: try #require(IPAddress("10.16.0.15")), prefixLength: 16, leaseTime: 60)
            return PortRecord(
                key: PortRecord.Key(containerID: "c1", interface: "eth0"), namespace: "\(link)/\(name)",
                namespaceID: try #require(NetworkNamespace.identity(at: "/run/netns/\(name)")),
                owner: "vm default/testvm (vm-net/eth0)", guest: guest, guestMAC: guestMAC, answersDHCP: answersDHCP)
        }
    }

    @Test(.enabled(if: getuid() == 0, "network namespaces need root"))
    func `a namespace that cannot be seen is not taken for one that is gone`() throws {
        let place = try Place()
        let record = try place.record()
        try place.folder.save(record)
        let log = RecordedLog()
        let ports = try GuestPorts(folder: place.folder, log: log.logger)
        ports.restore()
        #expect(place.folder.load().records == [record])
        #expect(log.lines.count { $0.hasPrefix("a guest's port cannot be opened") } == 1, "\(log.lines)")
        // One that is gone, and another one in its place, are known as such.
        try place.show()
        var other = record
        other.namespaceID += 1
        try place.folder.save(other)
        try GuestPorts(folder: place.folder, log: log.logger).restore()
        #expect(place.folder.load().records.isEmpty)
        try place.folder.save(record)
        try Executable.run(["ip", "netns", "del", place.name]).requireSuccess()
        try GuestPorts(folder: place.folder, log: log.logger).restore()
        #expect(place.folder.load().records.isEmpty)
    }

    @Test(.enabled(if: getuid() == 0, "network namespaces need root"))
    func `a port that cannot be opened, and a tap that cannot be listened to, are tried again`() throws {
        let place = try Place()
        try place.folder.save(try place.record())
        let log = RecordedLog()
        var logger = log.logger
        logger.logLevel = .notice
        let ports = try GuestPorts(folder: place.folder, log: logger)
        ports.restore()
        ports.pass(at: .now + .seconds(11))
        #expect(log.lines.count == 1 && log.lines[0].hasPrefix("a guest's port cannot be opened"), "\(log.lines)")
        try place.show()
        ports.pass(at: .now + .seconds(22))
        #expect(log.lines.count == 2 && log.lines[1].hasPrefix("a guest's port is served now"), "\(log.lines)")
        try place.hide()
        try place.link(
            "add k6t-eth0 type bridge", "add eth0-nic type veth peer name p0", "add tap0 type veth peer name p1",
            "set eth0-nic master k6t-eth0", "set tap0 master k6t-eth0")
        ports.pass(at: .now)
        ports.pass(at: .now + .seconds(33))
        #expect(log.lines.count == 3 && log.lines[2].hasPrefix("a guest's tap cannot be listened to"), "\(log.lines)")
        try place.show()
        ports.pass(at: .now + .seconds(44))
        #expect(log.lines.count == 4 && log.lines[3].hasPrefix("a guest's port is served now"), "\(log.lines)")
    }

    @Test(.enabled(if: getuid() == 0, "network namespaces need root"))
    func `a record that the disk does not take is written once it does, and not of a port that is gone`() throws {
        let place = try Place()
        try place.show()
        let folder = place.scratch + "/ports"
        let log = RecordedLog()
        let ports = try GuestPorts(folder: place.folder, log: log.logger)
        let record = try place.record()
        func attachInVain() throws {
            try Data().write(to: URL(filePath: folder))
            try ports.attach(record)
            ports.pass(at: .now + .seconds(11))
            try FileManager.default.removeItem(atPath: folder)
        }
        try attachInVain()
        #expect(log.lines.count == 1 && log.lines[0].contains("cannot be written"), "\(log.lines)")
        ports.pass(at: .now + .seconds(33))
        #expect(place.folder.load().records == [record])
        ports.detach(record.key)
        try FileManager.default.removeItem(atPath: folder)
        try attachInVain()
        ports.detach(record.key)
        ports.pass(at: .now + .seconds(99))
        #expect(place.folder.load().records.isEmpty)
    }

    /// KubeVirt gives a bridged guest the MAC of its VM, and puts another one on the pod's interface.
    @Test(.enabled(if: getuid() == 0, "network namespaces need root"))
    func `an address is announced at the guest's MAC, if that is known, and without a bridge at the interface's`()
        throws
    {
        let place = try Place()
        try place.show()
        let own = try #require(MACAddress("02:00:00:00:00:01"))
        try place.link("add eth0 address \(own) type veth peer name p0", "set eth0 up", "set p0 up")
        let log = RecordedLog()
        var logger = log.logger
        logger.logLevel = .notice
        let ports = try GuestPorts(folder: place.folder, log: logger)
        let filter = PacketFilter(server: IPAddress("10.16.0.15"))
        let wire = try place.socket(on: "p0") { (socket, index) throws(SystemError) in
            try socket.listen(on: index, filter: filter)
        }
        func announced(guestMAC: MACAddress?) throws -> MACAddress? {
            let record = try place.record(answersDHCP: false, guestMAC: guestMAC)
            try ports.attach(record)
            ports.pass(at: .now)
            ports.announce(record.key)
            let deadline = ContinuousClock.now + .seconds(10)
            while log.lines.isEmpty, .now < deadline {
                ports.pass(at: .now)
                if let frame = wire.receive() { return EthernetFrame(parsing: frame)?.source }
            }
            return nil
        }
        let guest = try #require(MACAddress("02:00:00:00:00:66"))
        #expect(try announced(guestMAC: nil) == own)
        #expect(try announced(guestMAC: guest) == own)
        try place.link(
            "add k6t-eth0 type bridge", "set eth0 down", "set eth0 name eth0-nic",
            "set eth0-nic master k6t-eth0 up", "add eth0 type veth peer name p2")
        #expect(try announced(guestMAC: guest) == guest)
        #expect(try announced(guestMAC: nil) == nil && log.lines.count == 1, "\(log.lines)")
        #expect(log.lines.first?.hasPrefix("not announced: the guest's MAC is not known") == true)
        ports.pass(at: .now + .seconds(5))
        #expect(log.lines.count == 1)
    }

    /// The shortest, without BOOTP's padding.
    private func question(from mac: MACAddress, for address: [UInt8] = [10, 16, 0, 15]) throws -> EthernetFrame {
        let message = DHCPv4Message(
            operation: .request, transactionID: 7, hardwareAddress: mac.bytes,
            options: [DHCPv4Option(.messageType, [3]), DHCPv4Option(.requestedAddress, address)])
        return UDPDatagram(
            source: try #require(IPAddress("0.0.0.0")), destination: try #require(IPAddress("255.255.255.255")),
            sourcePort: 68, destinationPort: 67, payload: Array(message.bytes.prefix(250))
        ).frame(from: mac, to: MACAddress(bits: 0xffff_ffff_ffff))
    }

    /// Serves until the log has a line that begins so, and says how many there are.
    private func lines(_ start: String, in log: RecordedLog, of ports: GuestPorts) -> Int {
        let deadline = ContinuousClock.now + .seconds(10)
        while !log.lines.contains(where: { $0.hasPrefix(start) }), .now < deadline { ports.pass(at: .now) }
        return log.lines.count { $0.hasPrefix(start) }
    }

    @Test(.enabled(if: getuid() == 0, "network namespaces need root"))
    func `an answer that the tap does not take is told of once, and one that it takes is no larger than it`() throws {
        let place = try Place()
        try place.show()
        // A question fits through, and no answer does.
        try place.plug(mtu: 300)
        let log = RecordedLog(.info)
        let ports = try GuestPorts(folder: place.folder, log: log.logger)
        var record = try place.record()
        record.guest.ipv4?.search = (1...8).map { "\($0).department.example" }
        try ports.attach(record)
        ports.pass(at: .now)
        let guest = try place.socket(on: "p1") { (socket, index) throws(SystemError) in try socket.speak(on: index) }
        for _ in 0..<2 { #expect(guest.send(try question(from: record.guest.mac))) }
        // Whatever came before this one has been answered, or not, when it is told of.
        #expect(guest.send(try question(from: MACAddress(bits: 0x0200_0000_0099))))
        #expect(lines("a guest asks with a MAC", in: log, of: ports) == 1)
        #expect(log.lines.count == 2 && log.lines[0].hasPrefix("an answer to a guest is lost"), "\(log.lines)")
        try place.link("set tap0 mtu 400")
        #expect(guest.send(try question(from: record.guest.mac)))
        #expect(lines("guest has its address by DHCP", in: log, of: ports) == 1, "\(log.lines)")
        #expect(log.lines.last?.hasPrefix("DHCP options that a guest asks for are left out") == true, "\(log.lines)")
        #expect(log.lines.last?.contains("options=119 ") == true, "\(log.lines)")
    }

    @Test(.enabled(if: getuid() == 0, "network namespaces need root"))
    func `who asks with many MACs hides nothing else`() throws {
        let place = try Place()
        try place.show()
        try place.plug()
        let log = RecordedLog()
        let ports = try GuestPorts(folder: place.folder, log: log.logger)
        let record = try place.record()
        try ports.attach(record)
        ports.pass(at: .now)
        let guest = try place.socket(on: "p1") { (socket, index) throws(SystemError) in try socket.speak(on: index) }
        for number in 0..<20 as Range<UInt64> {
            #expect(guest.send(try question(from: MACAddress(bits: 0x0200_0000_0100 + number))))
        }
        #expect(guest.send(try question(from: record.guest.mac, for: [10, 16, 0, 16])))
        #expect(lines("a guest asks for an address that is not its own", in: log, of: ports) == 1)
        #expect(log.lines.count == 17, "\(log.lines)")
    }

    @Test(.enabled(if: getuid() == 0, "network namespaces need root"))
    func `many taps beside a port are not all listened to, and the first one is`() throws {
        let place = try Place()
        try place.show()
        try place.plug()
        for tap in (1...8).map({ "tap\($0)" }) {
            try place.link("add \(tap) type veth peer name \(tap)p", "set \(tap) master k6t-eth0")
        }
        let log = RecordedLog(.info)
        let ports = try GuestPorts(folder: place.folder, log: log.logger)
        let record = try place.record()
        try ports.attach(record)
        ports.pass(at: .now)
        let guest = try place.socket(on: "p1") { (socket, index) throws(SystemError) in try socket.speak(on: index) }
        #expect(guest.send(try question(from: record.guest.mac)))
        #expect(lines("guest has its address by DHCP", in: log, of: ports) == 1)
        var port = try GuestPort(record)
        let deadline = ContinuousClock.now + .seconds(10)
        while port.descriptors.count < 5, .now < deadline { _ = port.serve(at: .now) }
        _ = port.serve(at: .now)
        #expect(port.descriptors.count == 5)
    }

    @Test(.enabled(if: getuid() == 0, "network namespaces need root"))
    func `of very many changes of links a part is read at a time, and all in the end`() throws {
        let place = try Place()
        try place.link("add d0 type veth peer name d1")
        let links = try NetworkNamespace.inside("/run/netns/\(place.name)") { () throws(SystemError) in try LinkSocket()
        }
        for mtu in 1000...1040 { try place.link("set d0 mtu \(mtu)") }
        let waiting = try Waiting()
        var table = LinkTable()
        links.read(into: &table)
        #expect(waiting.wait(for: [links.descriptor], milliseconds: 0) == [links.descriptor])
        let deadline = ContinuousClock.now + .seconds(10)
        while !waiting.wait(for: [links.descriptor], milliseconds: 100).isEmpty, .now < deadline {
            links.read(into: &table)
        }
        #expect(table.index(named: "d0").flatMap { table.links[$0]?.mtu } == 1040)
    }

    /// RFC 4861, section 6.3.7: three solicitations are all; those of a guest that started while no agent was here were lost.
    @Test(.enabled(if: getuid() == 0, "network namespaces need root"))
    func `a guest that does not ask is told of its prefix once somebody listens`() throws {
        let place = try Place()
        try place.show()
        var record = try place.record()
        try place.plug(guest: record.guest.mac, setUp: "echo 0 >/proc/sys/net/ipv6/conf/p1/router_solicitations")
        func shown(_ what: String) throws -> String {
            try Executable.run(["ip", "-n", place.name, "-6", what, "show", "dev", "p1"]).requireSuccess()
        }
        func isReady() throws -> Bool {
            let addresses = try shown("address")
            return addresses.contains("fe80:") && !addresses.contains("tentative")
        }
        var deadline = ContinuousClock.now + .seconds(10)
        while try !isReady(), .now < deadline {}
        record.guest.ipv6 = DHCPv6Lease(address: try #require(IPAddress("fd00::15")), prefixLength: 64, leaseTime: 60)
        let ports = try GuestPorts(folder: place.folder, log: RecordedLog().logger)
        try ports.attach(record)
        deadline = .now + .seconds(10)
        while try !shown("route").contains("fd00::/64"), .now < deadline { ports.pass(at: .now) }
        #expect(try shown("route").contains("fd00::/64"))
    }

    @Test(arguments: [
        ("eth0", "k6t-eth0", "eth0-nic"), ("pod1a2b3c4d5e6", "k6t-1a2b3c4d5e6", "1a2b3c4d5e6-nic"),
        ("net1", "k6t-net1", "net1-nic"),
    ])
    func `KubeVirt's names are found from the interface's`(interface: String, bridge: String, nic: String) {
        let key = PortRecord.Key(containerID: "c", interface: interface)
        #expect(key.bridge == bridge && key.nic == nic)
    }

    @Test func `an address is announced three times, and many together are not announced at once`() {
        var queue = AnnouncementQueue<Int>()
        #expect(queue.dueAt == nil && queue.next(at: start) == nil)
        for key in 0..<100 { queue.add(key, at: start) }
        #expect(queue.next(at: start) == 0 && queue.next(at: start) == nil)
        var count = 1
        var now = start
        var heard: [Int: Int] = [0: 1]
        while let due = queue.dueAt, count < 1000 {
            now = max(now, due)
            if let key = queue.next(at: now) { (count, heard[key]) = (count + 1, heard[key, default: 0] + 1) }
        }
        #expect(heard.count == 100 && heard.values.allSatisfy { $0 == 3 })
        #expect(now - start >= .milliseconds(20) * 299, "50 a second")
    }

    @Test func `one that is announced already begins anew, and one that is gone is not announced`() {
        var queue = AnnouncementQueue<Int>()
        queue.add(1, at: start)
        queue.add(1, at: start)
        queue.add(2, at: start)
        queue.remove(2)
        var heard: [Int] = []
        while let due = queue.dueAt { heard += queue.next(at: due).map { [$0] } ?? [] }
        #expect(heard == [1, 1, 1])
    }

    @Test func `migrations to this node that are no more open are noticed once, others never`() {
        func binding(_ name: String, migration: String, to node: String) -> Binding {
            Binding(
                owner: Owner(kind: .virtualMachine, namespace: "default", name: name, network: "n/eth0"), pool: "p",
                assignments: [], mac: MACAddress(bits: 1),
                target: Attachment(node: node, pod: "p", podUID: "u-\(migration)", containerID: "c"),
                migrationUID: migration, revision: 1, createdAt: Timestamp(seconds: 0), updatedAt: Timestamp(seconds: 0)
            )
        }
        var watch = CommitWatch(node: "node-b")
        let (mine, others) = (binding("a", migration: "m1", to: "node-b"), binding("b", migration: "m2", to: "node-a"))
        #expect(watch.observe([mine, others]).isEmpty && watch.observe([mine, others]).isEmpty)
        // Another migration of the same machine has taken the first one's place.
        let next = binding("a", migration: "m3", to: "node-b")
        #expect(watch.observe([next]) == [mine])
        #expect(watch.observe([]) == [next])
        #expect(watch.observe([]).isEmpty)
        #expect(watch.observe([mine]).isEmpty)
        watch.forget(mine)
        #expect(watch.observe([]).isEmpty)
    }

    @Test func `a tap's MTU is advertised only where the advertisement is a router's, or one is set`() throws {
        var guest = GuestConfiguration(mac: MACAddress(bits: 0x0200_0a10_000f))
        guest.ipv4 = DHCPv4Lease(address: try #require(IPAddress("10.16.0.15")), prefixLength: 16, leaseTime: 60)
        guest.ipv6 = DHCPv6Lease(address: try #require(IPAddress("fd00::15")), prefixLength: 64, leaseTime: 60)
        #expect(guest.withMTU(1500).ipv4?.mtu == 1500 && guest.withMTU(1500).ipv6?.mtu == nil)
        guest.ipv6?.router = IPAddress("fe80::1")
        #expect(guest.withMTU(1500).ipv6?.mtu == 1500)
        guest.ipv6?.router = nil
        guest.ipv6?.mtu = 1400
        #expect(guest.withMTU(1500).ipv6?.mtu == 1400)
    }
}
