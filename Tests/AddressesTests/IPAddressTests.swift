import Addresses
import Testing

@Suite struct IPAddressTests {
    @Test(arguments: [
        ("0.0.0.0", "0.0.0.0"), ("255.255.255.255", "255.255.255.255"), ("10.16.0.15", "10.16.0.15"),
        ("::", "::"), ("::1", "::1"), ("1::", "1::"), ("FD00:10:16::0a", "fd00:10:16::a"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"), ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"), ("0:0:1:0:0:0:0:0", "0:0:1::"),
        ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"), ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1"), ("::ffff:c000:201", "::ffff:192.0.2.1"),
        ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"), ("1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ])
    func `an address reads as RFC 4291 allows and prints as RFC 5952 says`(text: String, printed: String) throws {
        let address = try #require(IPAddress(text))
        #expect(address.description == printed)
        #expect(IPAddress(printed) == address)
    }

    @Test func `wherever an address has zeros, it reads as it prints`() {
        for zeros: UInt8 in 0...255 {
            var bits: UInt128 = 0
            for index: UInt8 in 0..<8 {
                let group: UInt128 = zeros >> index & 1 == 1 ? 0 : 0x8a0
                bits = bits << 16 | group
            }
            let address = IPAddress(family: .ipv6, bits: bits)
            #expect(IPAddress(address.description) == address)
        }
    }

    @Test(arguments: [
        "", " ", ".", ":", ":::", "1", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.04", "1..3.4", "1.2.3.",
        ".1.2.3", "1.2.3.4 ", " 1.2.3.4", "1.2.3.-4", "1.2.3.4/32", "0x1.2.3.4", "1.2.3.4\0", "١.2.3.4", "1.2.3.4444",
        "1:", ":1", "1:::2", "::1::", "1::2::3", "12345::", "g::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9",
        "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8", "::1.2.3", "1.2.3.4::", "::1.2.3.4:5", "1:2:3:4:5:6:7:1.2.3.4",
        "fe80::1%eth0", "[::1]", "::1\0", "::ffff:1.2.3.256", "::１",
    ])
    func `what is not one whole address is none`(text: String) {
        #expect(IPAddress(text) == nil)
    }

    @Test func `an IPv4-mapped IPv6 address is of the sixth family, and another than the IPv4 one`() throws {
        let mapped = try #require(IPAddress("::ffff:10.0.0.1"))
        #expect(mapped.family == .ipv6)
        #expect(mapped != IPAddress("10.0.0.1"))
    }

    @Test func `nothing comes after a family's last address`() throws {
        let last4 = try #require(IPAddress("255.255.255.255"))
        let last6 = try #require(IPAddress("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))
        #expect(last4.advanced(by: 0) == last4)
        #expect(last4.advanced(by: 1) == nil)
        #expect(last4.advanced(by: .max) == nil)
        #expect(last6.advanced(by: 1) == nil)
        #expect(IPAddress("10.0.0.255")?.advanced(by: 1)?.description == "10.0.1.0")
        #expect(IPAddress("::")?.advanced(by: .max) == last6)
    }

    @Test func `addresses go by number, IPv4 before IPv6`() throws {
        let texts = ["0.0.0.0", "9.255.255.255", "10.0.0.0", "255.0.0.0", "::", "::1", "ff00::"]
        let addresses = try texts.map { try #require(IPAddress($0)) }
        #expect(addresses.reversed().sorted() == addresses)
    }

    @Test func `bytes are in network order`() {
        #expect(IPAddress("10.16.0.15")?.bytes == [10, 16, 0, 15])
        #expect(IPAddress("fd00::1")?.bytes == [0xfd] + Array(repeating: 0, count: 14) + [1])
    }

    @Test(arguments: [
        ("224.0.0.1", true, false), ("239.255.255.255", true, false), ("223.255.255.255", false, false),
        ("240.0.0.0", false, false), ("ff02::1", true, false), ("fe80::1", false, false), ("127.8.8.8", false, true),
        ("::1", false, true),
    ])
    func `multicast and loopback are known`(text: String, isMulticast: Bool, isLoopback: Bool) {
        #expect(IPAddress(text)?.isMulticast == isMulticast)
        #expect(IPAddress(text)?.isLoopback == isLoopback)
    }
}
