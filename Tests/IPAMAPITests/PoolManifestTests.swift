import Addresses
import Foundation
import IPAMAPI
import IPAMModel
import Testing

@Suite struct PoolManifestTests {
    @Test("a pool with everything is read, from a list, below pools:, or alone, in YAML and in JSON")
    func everything() throws {
        let entry = """
            name: vm-net
            prefixes:
              - prefix: 10.16.0.0/16
                gateway: 10.16.0.1
                excluded: [10.16.0.2, 10.16.1.0/24, 10.16.2.5..10.16.2.9]
              - prefix: "fd00:10:16::/64"
                use_edge_addresses: true
            namespaces: [default]
            routes: [{destination: 10.0.0.0/8, gateway: 10.16.0.254}, {destination: 192.168.0.0/16}]
            dns: {nameservers: [10.16.0.53], domain: example.org, search: [a.example.org], options: ["ndots:2"]}
            is_default: true
            reuse_delay: 90s
            namespace_quota: 7
            history_retention: 48h
            """
        let indented = entry.split(separator: "\n").map { "    \($0)" }.joined(separator: "\n")
        let expected = Pool(
            name: "vm-net",
            prefixes: [
                PoolPrefix(
                    prefix: try #require(IPPrefix("10.16.0.0/16")), gateway: IPAddress("10.16.0.1"),
                    excluded: ["10.16.0.2", "10.16.1.0/24", "10.16.2.5..10.16.2.9"].compactMap(AddressRange.init)),
                PoolPrefix(prefix: try #require(IPPrefix("fd00:10:16::/64")), usesEdgeAddresses: true),
            ],
            namespaces: ["default"],
            routes: [
                Route(destination: try #require(IPPrefix("10.0.0.0/8")), gateway: IPAddress("10.16.0.254")),
                Route(destination: try #require(IPPrefix("192.168.0.0/16"))),
            ],
            dns: DNS(
                nameservers: [try #require(IPAddress("10.16.0.53"))], domain: "example.org", search: ["a.example.org"],
                options: ["ndots:2"]),
            isDefault: true, reuseDelay: .seconds(90), namespaceQuota: 7, historyRetention: .seconds(48 * 3600))
        for text in [entry, "-\n\(indented)", "pools:\n  -\n\(indented)"] {
            #expect(try PoolManifest.parse(Data(text.utf8), source: "test") == [expected])
        }
        let json = #"[{"name": "a", "prefixes": [{"prefix": "10.0.0.0/24"}], "reuse_delay": "0s"}]"#
        let pools = try PoolManifest.parse(Data(json.utf8), source: "test")
        #expect(pools.map(\.reuseDelay) == [.seconds(0)])
        #expect(pools.map(\.historyRetention) == [.seconds(90 * 24 * 3600)])
        let days = try PoolManifest.parse(Data(entry.replacing("48h", with: "2d").utf8), source: "test")
        #expect(days == [expected])
    }

    @Test("a revision is read where it is asked for, written as the API's JSON has it or as a number")
    func revision() throws {
        for text in [#""12""#, "12"] {
            let file = Data("{name: a, prefixes: [{prefix: 10.0.0.0/24}], revision: \(text), usage: []}".utf8)
            #expect(try PoolManifest.parse(file, source: "test", keepsRevision: true).map(\.revision) == [12])
            #expect(try PoolManifest.parse(file, source: "test").map(\.revision) == [0])
        }
    }

    @Test(
        "what is wrong is named with its place",
        arguments: [
            ("- name: a", "pools.yaml: [0].prefixes: is missing"),
            ("", "pools.yaml: is empty: a list of pools is wanted, or one pool"),
            ("# none yet", "pools.yaml: is empty"),
            ("hello", "pools.yaml: a list of pools is wanted, or one pool"),
            ("pools:", "pools.yaml: pools: a list is wanted"),
            ("- a", "pools.yaml: [0]: fields and their values are wanted"),
            ("- {name: a, prefixes: 10.0.0.0/24}", "pools.yaml: [0].prefixes: a list is wanted"),
            ("- {name: [a], prefixes: [{prefix: 10.0.0.0/24}]}", "pools.yaml: [0].name: a text is wanted"),
            (
                "- {name: a, prefixes: [{prefix: 10.0.0.0/24}], is_default: perhaps}",
                "pools.yaml: [0].is_default: true or false is wanted"
            ),
            ("- {name: a, prefixes: []}", "pools[0].prefixes: at least one is needed"),
            (
                "- {name: a, prefixes: [{prefix: 10.0.0.1/24}]}",
                "pools[0].prefixes[0].prefix: '10.0.0.1/24' has host bits set; the network is 10.0.0.0/24"
            ),
            ("- {name: a, prefixes: [{prefix: 10.0.0.0/24, gatway: 10.0.0.1}]}", "'gatway' is unknown here"),
            (
                "- {name: a, prefixes: [{prefix: 10.0.0.0/24, gateway: 10.0.1.1}]}",
                "pools[0].prefixes[0].gateway: 10.0.1.1 is outside 10.0.0.0/24"
            ),
            (
                "- {name: a, prefixes: [{prefix: 10.0.0.0/24, excluded: [10.0.1.0/24]}]}",
                "pools[0].prefixes[0].excluded[0]"
            ),
            (
                "- {name: a, prefixes: [{prefix: 10.0.0.0/24}], reuse_delay: soon}",
                "pools[0].reuse_delay: 'soon' is no duration"
            ),
            ("- {name: a b, prefixes: [{prefix: 10.0.0.0/24}]}", "pools[0].name: 'a b' may hold"),
            (
                "- {name: a, prefixes: [{prefix: 10.0.0.0/24}], namespace_quota: -1}",
                "[0].namespace_quota: a whole number is wanted"
            ),
            ("- {name: a, prefixes: [{prefix: 10.0.0.0/24}], revision: x}", "pools[0].revision: 'x' is no number"),
            ("name: [", "line"),
        ])
    func wrong(text: String, words: String) {
        let error = #expect(throws: IPAMError.self) { try PoolManifest.parse(Data(text.utf8), source: "pools.yaml") }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.hasPrefix("pools.yaml: ") == true)
        #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
    }
}
