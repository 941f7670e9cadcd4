import Addresses
import Testing

@Suite struct IPPrefixTests {
    @Test(arguments: [
        ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"), ("10.16.0.0/16", "10.16.0.0", "10.16.255.255"),
        ("10.0.0.4/31", "10.0.0.4", "10.0.0.5"), ("10.0.0.5/32", "10.0.0.5", "10.0.0.5"),
        ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("fd00::/64", "fd00::", "fd00::ffff:ffff:ffff:ffff"), ("fd00::2/127", "fd00::2", "fd00::3"),
        ("fd00::2/128", "fd00::2", "fd00::2"),
    ])
    func `a prefix goes from its first address through its last`(text: String, first: String, last: String) throws {
        let prefix = try #require(IPPrefix(text))
        #expect(prefix.description == text)
        #expect(prefix.range == AddressRange("\(first)..\(last)"))
        #expect(prefix.contains(prefix.address) && prefix.contains(prefix.last))
        if let next = prefix.last.advanced(by: 1) { #expect(!prefix.contains(next)) }
    }

    @Test(arguments: [
        "10.0.0.1/24", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "10.0.0.0", "/24", "10.0.0.0/24/24", "10.0.0.0/+8",
        "10.0.0.0/08", "10.0.0.0/024", "10.0.0.0/8 ", "fd00::/129", "fd00::1/64", "::1/0", "10.0.0.0/٨", "10.0/16",
    ])
    func `host bits, a length that does not fit and other text are refused`(text: String) {
        #expect(IPPrefix(text) == nil)
    }

    @Test func `the network that an address lies in has no host bits`() throws {
        let address = try #require(IPAddress("10.16.3.9"))
        #expect(IPPrefix(containing: address, length: 16) == IPPrefix("10.16.0.0/16"))
        #expect(IPPrefix(containing: address, length: 0) == IPPrefix("0.0.0.0/0"))
        #expect(IPPrefix(containing: address, length: 33) == nil)
        #expect(IPPrefix.split("10.16.3.9/16")?.address == address)
    }

    @Test(arguments: [
        ("10.0.0.0/8", "10.16.0.0/16", true), ("10.16.0.0/16", "10.17.0.0/16", false),
        ("0.0.0.0/0", "10.0.0.0/32", true), ("0.0.0.0/0", "::/0", false), ("10.0.0.0/31", "10.0.0.2/31", false),
        ("fd00::/64", "fd00::8/127", true),
    ])
    func `prefixes overlap when one is inside the other`(one: String, other: String, overlap: Bool) throws {
        let (one, other) = (try #require(IPPrefix(one)), try #require(IPPrefix(other)))
        #expect(one.overlaps(other) == overlap)
        #expect(other.overlaps(one) == overlap)
    }

    @Test(arguments: [
        ("10.0.0.5", "10.0.0.5", 0), ("10.0.0.5..10.0.0.9", "10.0.0.5..10.0.0.9", 4),
        ("10.0.0.5..10.0.0.5", "10.0.0.5", 0), ("10.0.0.0/28", "10.0.0.0/28", 15),
        ("10.0.0.16..10.0.0.31", "10.0.0.16/28", 15), ("10.0.0.8..10.0.0.23", "10.0.0.8..10.0.0.23", 15),
        ("10.0.0.0..10.0.0.11", "10.0.0.0..10.0.0.11", 11), ("fd00::a..fd00::f", "fd00::a..fd00::f", 5),
        ("::/0", "::/0", UInt128.max),
    ])
    func `a range is an address, a network or two ends`(text: String, printed: String, span: UInt128) throws {
        let range = try #require(AddressRange(text))
        #expect(range.description == printed)
        #expect(AddressRange(range.description) == range)
        #expect(range.span == span)
    }

    @Test(arguments: [
        "", "..", "10.0.0.9..10.0.0.5", "10.0.0.5..", "..10.0.0.5", "10.0.0.5..::1", "10.0.0.5...10.0.0.9",
        "10.0.0.5-10.0.0.9", "10.0.0.1..10.0.0.2..10.0.0.3", "10.0.0.0/28..10.0.0.1",
        "10.0.0.3/28",
    ])
    func `ends that are missing, reversed or of two families make no range`(text: String) {
        #expect(AddressRange(text) == nil)
    }

    @Test func `a range of one family has no address of the other`() throws {
        let range = try #require(AddressRange("0.0.0.0/0"))
        #expect(try !range.contains(#require(IPAddress("::5"))))
        #expect(try range.contains(#require(IPAddress("255.255.255.255"))))
    }
}
