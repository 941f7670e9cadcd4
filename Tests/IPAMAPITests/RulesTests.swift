import Addresses
import IPAMAPI
import IPAMModel
import Testing

/// What a field may hold.
@Suite struct RulesTests {
    private func field(_ body: () throws(IPAMError) -> some Any) -> String? {
        do throws(IPAMError) { _ = try body() } catch { return error.metadata["field"] }
        return nil
    }

    @Test(
        "a name begins and ends with a letter or digit",
        arguments: [
            ("a", true), ("0", true), ("A_b-c.d9", true), ("-a", false), ("a-", false), (".", false), ("a.", false),
            ("_a", false), ("", false), ("a/b", false), ("ä", false),
        ])
    func names(text: String, isName: Bool) {
        #expect((field { () throws(IPAMError) in try Rules.objectName(text, "name") } == nil) == isName)
        #expect((field { () throws(IPAMError) in try Rules.poolName(text, "name") } == nil) == isName)
    }

    @Test("a namespace has no dots") func namespaces() {
        #expect(field { () throws(IPAMError) in try Rules.namespace("kube-system", "namespace") } == nil)
        #expect(field { () throws(IPAMError) in try Rules.namespace("a.b", "namespace") } == "namespace")
    }

    @Test("an excluded network has no host bits") func ranges() throws {
        let error = #expect(throws: IPAMError.self) { try Rules.range("10.16.0.5/28", "excluded[0]") }
        #expect(error?.message == "excluded[0]: '10.16.0.5/28' has host bits set; the network is 10.16.0.0/28")
        #expect(try "\(Rules.range("10.16.0.0/28", "excluded[0]"))" == "10.16.0.0/28")
    }

    @Test(
        "a prefix shares no address with what no interface can have",
        arguments: [
            "0.0.0.0/0", "0.0.0.0/7", "0.5.0.0/16", "127.0.0.0/8", "126.0.0.0/7", "127.1.0.0/16", "224.0.0.0/4",
            "192.0.0.0/2", "239.1.0.0/16", "::/0", "::/64", "::/128", "::1/128", "::/127", "ff00::/8", "fe00::/7",
            "ff02::/16", "255.255.255.255/32", "255.255.255.254/31", "::ffff:0:0/96", "::ffff:10.0.0.0/120",
        ])
    func prefixes(text: String) throws {
        let pool = Pool(name: "p", prefixes: [PoolPrefix(prefix: try #require(IPPrefix(text)))])
        #expect(field { () throws(IPAMError) in try Rules.check(pool, "pool") } == "pool.prefixes[0].prefix")
        // The broadcast address of a network is nobody's anyway.
        for other in ["10.0.0.0/8", "128.0.0.0/2", "fd00::/8", "::2/127", "240.0.0.0/4", "255.255.255.0/24"] {
            let pool = Pool(name: "p", prefixes: [PoolPrefix(prefix: try #require(IPPrefix(other)))])
            try Rules.check(pool, "pool")
        }
    }

    @Test func `255.255.255.255 is given by no pool, and asked for by nobody`() throws {
        let prefix = PoolPrefix(prefix: try #require(IPPrefix("255.255.255.0/24")), usesEdgeAddresses: true)
        let pool = Pool(name: "p", prefixes: [prefix])
        #expect(field { () throws(IPAMError) in try Rules.check(pool, "pool") } == "pool.prefixes[0].prefix")
        for text in ["255.255.255.255", "::ffff:10.0.0.1", "0.0.0.0", "127.0.0.1", "224.0.0.1", "::", "ff02::1"] {
            #expect(field { () throws(IPAMError) in try Rules.address(text, "address") } == "address")
        }
        #expect(field { () throws(IPAMError) in try Rules.address("255.255.255.254", "address") } == nil)
    }

    @Test(
        "a pool's lists have limits",
        arguments: [
            ("prefixes", 64), ("prefixes[0].excluded", 1024), ("namespaces", 256), ("routes", 64),
            ("dns.nameservers", 16), ("dns.search", 16), ("dns.options", 16), ("prefixes[].excluded", 16_384),
        ])
    func limits(list: String, limit: Int) throws {
        let address = try #require(IPAddress("10.0.0.1"))
        for count in [limit, limit + 1] {
            let prefix = PoolPrefix(prefix: try #require(IPPrefix("10.0.0.0/24")))
            var pool = Pool(name: "p", prefixes: [prefix], dns: DNS())
            let texts = (0..<count).map { "n\($0)" }
            switch list {
            case "prefixes": pool.prefixes = Array(repeating: prefix, count: count)
            case "prefixes[0].excluded":
                pool.prefixes[0].excluded = Array(
                    repeating: AddressRange(from: address, through: address), count: count)
            case "prefixes[].excluded":
                let full = Array(repeating: AddressRange(from: address, through: address), count: 1024)
                pool.prefixes = Array(repeating: prefix, count: 17)
                for index in 0..<16 { pool.prefixes[index].excluded = full }
                pool.prefixes[16].excluded = Array(full.prefix(count - 16_384))
            case "namespaces": pool.namespaces = texts
            case "routes":
                pool.routes = Array(repeating: Route(destination: prefix.prefix), count: count)
            case "dns.nameservers": pool.dns?.nameservers = Array(repeating: address, count: count)
            case "dns.search": pool.dns?.search = texts
            default: pool.dns?.options = texts
            }
            #expect(
                field { () throws(IPAMError) in try Rules.check(pool, "pool") }
                    == (count > limit ? "pool.\(list)" : nil))
        }
    }
}
