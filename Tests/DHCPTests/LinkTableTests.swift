import DHCP
import Testing

struct LinkTableTests {
    /// `struct nlmsghdr`, `struct ifinfomsg`, and the attributes, in this machine's order.
    private func message(
        _ type: UInt16, family: UInt8 = 0, index: UInt32, name: String? = nil, master: UInt32? = nil
    ) -> [UInt8] {
        func number(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } }
        func half(_ value: UInt16) -> [UInt8] { [UInt8(value & 255), UInt8(value >> 8)] }
        func attribute(_ kind: UInt16, _ value: [UInt8]) -> [UInt8] {
            half(UInt16(4 + value.count)) + half(kind) + value + [UInt8](repeating: 0, count: (4 - value.count % 4) % 4)
        }
        var body = [family, 0, 0, 0] + number(index) + number(0) + number(0)
        if let name { body += attribute(3, Array(name.utf8) + [0]) }
        body += attribute(1, [2, 0, 0, 0, 0, UInt8(index)]) + attribute(4, number(1450))
        if let master { body += attribute(10, number(master)) }
        return number(UInt32(16 + body.count)) + half(type) + half(0) + number(0) + number(0) + body
    }

    @Test func `links come, change and go`() throws {
        var table = LinkTable()
        table.take(
            message(16, index: 2, name: "eth0") + message(16, index: 7, name: "k6t-eth0")
                + message(16, index: 9, name: "tap0", master: 7))
        #expect(table.index(named: "k6t-eth0") == 7)
        #expect(table.links[9] == LinkTable.Link(name: "tap0", master: 7, mtu: 1450, mac: try mac("02:00:00:00:00:09")))
        table.take(message(16, index: 2, name: "eth0-nic", master: 7))
        #expect(table.index(named: "eth0") == nil && table.links[2]?.master == 7)
        // A port that leaves its bridge is not gone.
        table.take(message(17, family: 7, index: 9, name: "tap0", master: 7))
        #expect(table.links[9] != nil)
        table.take(message(17, index: 9, name: "tap0"))
        #expect(table.links[9] == nil)
    }

    @Test func `that a question is not answered is noticed among what is told`() {
        var table = LinkTable()
        let told = message(16, index: 2, name: "eth0")
        let refusal: [UInt8] = [36, 0, 0, 0, 2, 0] + [UInt8](repeating: 0, count: 30)
        #expect(table.take(told) && !table.take(refusal + told))
        #expect(table.index(named: "eth0") == 2)
    }

    @Test func `cut and senseless messages change nothing`() {
        var table = LinkTable()
        let whole = message(16, index: 2, name: "eth0")
        for count in 0..<whole.count - 4 {
            var cut = LinkTable()
            cut.take(Array(whole.prefix(count)))
            #expect(cut == table)
        }
        table.take([UInt8](repeating: 0, count: 64))
        table.take([UInt8](repeating: 255, count: 64))
        #expect(table.links.isEmpty)
    }
}
