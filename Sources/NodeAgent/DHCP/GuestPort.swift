import Addresses
import DHCP
import Syscalls

/// The place where one guest's frames are heard and answered: the taps beside the pod's interface.
///
/// With the bindings `bridge` and `managedTap` KubeVirt makes, in the pod's network namespace, a bridge `k6t-eth0` with
/// two ports, the pod's interface renamed to `eth0-nic` and the guest's tap; a dummy takes the name `eth0` (KubeVirt
/// pkg/network/setup/netpod/netpod.go, pkg/network/link/names.go). What comes in from the tap is the guest's and nobody
/// else's, also its unicasts to a router, which the bridge itself would not see; what is sent to the tap gets to the
/// guest alone, where the pod's interface, either end of it, would put it on the wire. And so it is with any main
/// plugin: macvlan has no end on the host.
///
/// The binding `bridge` gives the bridge an address, from which virt-launcher answers DHCPv4 itself; `managedTap` gives it
/// none. `masquerade` does not make the pod's interface a port, and is left alone altogether: its guest has an address of
/// its own network.
struct GuestPort: Sendable {
    let record: PortRecord
    private let links: LinkSocket
    private var table = LinkTable()
    private var listeners: [Int32: Listener] = [:]
    /// KubeVirt makes one; each has a socket.
    private static let mostTaps = 4
    /// Why a tap that was there at the last look is not listened to.
    private(set) var failure: SystemError?

    private struct Listener: Sendable {
        let socket: PacketSocket
        var responder: Responder
        var mtu: UInt32

        func advertise() {
            if let frame = responder.unsolicitedAdvertisement { _ = socket.send(frame) }
        }
    }

    /// Fails where the pod's namespace cannot be entered, or no raw socket opened.
    init(_ record: PortRecord) throws(SystemError) {
        self.record = record
        links = try NetworkNamespace.inside(record.namespace) { () throws(SystemError) in
            // Of no use yet: that the right to have one is missing shows now, and not once a guest asks in vain.
            if record.answersDHCP { _ = try PacketSocket() }
            let links = try LinkSocket()
            try links.requestAll()
            return links
        }
    }

    /// Those that tell when `serve` has something to do.
    var descriptors: [CInt] { [links.descriptor] + listeners.values.map(\.socket.descriptor) }

    /// Reads what waits, and answers. Gives back what a person may want to know.
    mutating func serve(at now: ContinuousClock.Instant) -> [Responder.Event] {
        let before = table
        links.read(into: &table)
        if table != before { followLinks() }
        var events: [Responder.Event] = []
        for index in listeners.keys {
            // Bounded: one guest must not keep the others waiting.
            for _ in 0..<32 {
                guard let frame = listeners[index]?.socket.receive() else { break }
                if isLaunchers(frame, listeners[index]?.socket) { continue }
                guard let answer = listeners[index]?.responder.answer(to: frame, at: now) else { break }
                let isSent = answer.frames.allSatisfy { listeners[index]?.socket.send($0) == true }
                // What the kernel did not take, the guest asks for again.
                events += isSent ? answer.events : [.unsent]
            }
        }
        return events
    }

    /// What guests are told without asking.
    func advertise() {
        for listener in listeners.values { listener.advertise() }
    }

    /// Tells the network, and not the guest, that the addresses are here: at the guest's MAC; where no bridge is between, at the
    /// interface's own, which all frames come from. False where the guest's is not known.
    func announce() throws(SystemError) -> Bool {
        let bridged = table.index(named: record.key.nic)
        guard let index = bridged ?? table.index(named: record.key.interface) else { return true }
        guard let mac = bridged == nil ? table.links[index]?.mac : record.guestMAC else { return false }
        let socket = try NetworkNamespace.inside(record.namespace) { () throws(SystemError) in try PacketSocket() }
        try socket.speak(on: index)
        for address in [record.guest.ipv4?.address, record.guest.ipv6?.address].compactMap(\.self) {
            _ = socket.send(Announcement.frame(of: address, at: mac))
        }
        return true
    }

    /// Whether virt-launcher answers it: not known before the guest asks, as the bridge gets its address after its ports.
    private func isLaunchers(_ frame: [UInt8], _ socket: PacketSocket?) -> Bool {
        EthernetFrame(parsing: frame)?.etherType == EthernetFrame.ipv4
            && socket?.hasIPv4Address(onInterface: record.key.bridge) == true
    }

    /// Tries once more to listen where it failed.
    mutating func retry() { followLinks() }

    private mutating func followLinks() {
        guard record.answersDHCP else { return }
        failure = nil
        let bridge = table.index(named: record.key.bridge)
        let ports = table.links.filter { bridge != nil && $0.value.master == bridge }
        let hasNIC = ports.values.contains { $0.name == record.key.nic }
        let taps = ports.filter { hasNIC && $0.value.name != record.key.nic }
            .sorted { $0.key < $1.key }.prefix(Self.mostTaps)
        listeners = listeners.filter { listener in taps.contains { $0.key == listener.key } }
        for (index, tap) in taps where listeners[index]?.mtu != tap.mtu {
            let responder = Responder(record.guest.withMTU(tap.mtu), mtu: Int(tap.mtu))
            if listeners[index] != nil {
                listeners[index]?.responder = responder
                listeners[index]?.mtu = tap.mtu
            } else {
                do throws(SystemError) {
                    let listener = Listener(socket: try listen(on: index), responder: responder, mtu: tap.mtu)
                    listeners[index] = listener
                    // What the guest asked while nobody listened it may not ask again.
                    listener.advertise()
                } catch {
                    failure = error
                }
            }
        }
    }

    /// Fails where the tap is gone again: then that is told soon, too.
    private func listen(on tap: Int32) throws(SystemError) -> PacketSocket {
        let socket = try NetworkNamespace.inside(record.namespace) { () throws(SystemError) in try PacketSocket() }
        try socket.listen(on: tap, filter: PacketFilter(server: record.guest.ipv4?.server))
        return socket
    }
}

extension GuestConfiguration {
    /// The port's MTU where no other is set. Not in advertisements of no router: hosts take the link's MTU from whichever came
    /// last (RFC 4861, section 6.3.4), and the routers that speak for themselves may say less.
    func withMTU(_ mtu: UInt32) -> GuestConfiguration {
        var copy = self
        let mtu = UInt16(exactly: mtu)
        if copy.ipv4?.mtu == nil { copy.ipv4?.mtu = mtu }
        if copy.ipv6?.router != nil, copy.ipv6?.mtu == nil { copy.ipv6?.mtu = mtu }
        return copy
    }
}

/// KubeVirt's names in the pod: a secondary interface is `pod<hash>` and its others go without `pod`
/// (KubeVirt pkg/network/link/names.go).
extension PortRecord.Key {
    private var baseName: Substring { interface.hasPrefix("pod") ? interface.dropFirst(3) : interface[...] }

    /// The bridge between the pod's interface and the guest's tap.
    var bridge: String { "k6t-\(baseName)" }
    /// The pod's interface as that bridge's port.
    var nic: String { "\(baseName)-nic" }
}
