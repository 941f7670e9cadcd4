import Testing

@testable import Addresses

struct AddressRangeTests {
    @Test(
        arguments: [
            (
                "10.0.0.0/28", ["10.0.0.0/30", "10.0.0.6..10.0.0.9", "10.0.0.8..10.0.0.12"],
                ["10.0.0.4/31", "10.0.0.13..10.0.0.15"]
            ),
            ("10.0.0.0/28", ["10.0.0.15"], ["10.0.0.0..10.0.0.14"]),
            ("10.0.0.0/28", ["9.0.0.0/8", "fd00::/64"], ["10.0.0.0/28"]),
            ("10.0.0.0/28", ["10.0.0.0/8"], []),
            ("0.0.0.0/0", ["255.255.255.255", "0.0.0.0"], ["0.0.0.1..255.255.255.254"]),
            ("::/0", ["::/1"], ["8000::/1"]), ("::/0", ["8000::/1"], ["::/1"]), ("::/0", ["::/0"], []),
        ])
    func `what others have is subtracted`(_ range: String, _ others: [String], _ rest: [String]) throws {
        let range = try #require(AddressRange(range))
        let taken = try others.map { try #require(AddressRange($0)) }
        let expected = try rest.map { try #require(AddressRange($0)) }
        #expect(range.subtracting(taken) == expected)
        #expect(range.subtracting(taken.reversed()) == expected)
    }

    @Test(
        arguments: [
            ("10.0.0.5..10.0.0.20", "10.0.0.16/28", "10.0.0.16..10.0.0.20"),
            ("10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/16"),
            ("10.0.0.5", "10.0.0.0/29", "10.0.0.5"), ("10.0.0.5", "10.0.0.8/29", nil), ("10.0.0.5", "::/0", nil),
        ])
    func `the part in a prefix`(_ range: String, _ prefix: String, _ part: String?) throws {
        let range = try #require(AddressRange(range))
        let prefix = try #require(IPPrefix(prefix))
        #expect(range.part(in: prefix)?.description == part)
        #expect(range.overlaps(prefix.range) == (part != nil))
    }
}
