package import Addresses

/// The kernel's filter of what a port's socket gets (classic BPF): a guest's untagged questions to DHCP servers and
/// routers, and nothing that goes out to the guest.
package struct PacketFilter: Sendable {
    /// One instruction, as the kernel's `struct sock_filter`.
    struct Instruction: Sendable {
        var code: UInt16
        var jumpIfTrue: UInt8 = 0
        var jumpIfFalse: UInt8 = 0
        var operand: UInt32
    }

    let instructions: [Instruction]

    /// `server`: the address whose ARP questions count as well.
    package init(server: IPAddress?) {
        let (loadByte, loadHalf, loadWord): (UInt16, UInt16, UInt16) = (0x30, 0x28, 0x20)
        // SKF_AD_OFF: what the kernel knows beside the packet.
        let (packetType, vlanTagPresent): (UInt32, UInt32) = (0xffff_f004, 0xffff_f030)
        let outgoing: UInt32 = 4
        let (reject, accept) = (26, 27)
        var program: [Instruction] = []
        func load(_ code: UInt16, _ offset: UInt32) { program.append(Instruction(code: code, operand: offset)) }
        func jump(_ code: UInt16, _ value: UInt32, _ then: Int, _ otherwise: Int) {
            let next = program.count + 1
            program.append(
                Instruction(
                    code: code, jumpIfTrue: UInt8(then - next), jumpIfFalse: UInt8(otherwise - next), operand: value))
        }
        func require(_ value: UInt32, then: Int? = nil) { jump(0x15, value, then ?? program.count + 1, reject) }

        load(loadWord, packetType)
        jump(0x15, outgoing, reject, 2)
        load(loadWord, vlanTagPresent)
        require(0)
        load(loadHalf, 12)
        jump(0x15, UInt32(EthernetFrame.ipv4), 12, 6)
        jump(0x15, UInt32(EthernetFrame.ipv6), 19, 7)
        require(UInt32(EthernetFrame.arp))
        // 8: ARP's operation and target
        load(loadHalf, 20)
        require(UInt32(ARPPacket.request))
        load(loadWord, 38)
        require(UInt32(truncatingIfNeeded: server?.bits ?? 0xffff_ffff), then: accept)
        // 12: IPv4's protocol; no fragment but a first one; the port behind the header's length
        load(loadByte, 23)
        require(UInt32(IPPacket.udp))
        load(loadHalf, 20)
        jump(0x45, 0x1fff, reject, 16)
        load(0xb1, 14)
        load(0x48, 16)
        require(UInt32(DHCPv4Message.serverPort), then: accept)
        // 19: IPv6's next header
        load(loadByte, 20)
        jump(0x15, UInt32(IPPacket.udp), 22, 21)
        require(UInt32(IPPacket.icmpv6), then: 24)
        load(loadHalf, 56)
        require(UInt32(DHCPv6Message.serverPort), then: accept)
        load(loadByte, 54)
        require(UInt32(NeighborDiscoveryMessage.routerSolicitation), then: accept)
        program.append(Instruction(code: 0x06, operand: 0))
        program.append(Instruction(code: 0x06, operand: 0x4_0000))
        instructions = program
    }
}
