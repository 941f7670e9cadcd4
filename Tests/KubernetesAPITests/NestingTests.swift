import FoundationEssentials
import NIOCore
import TestCluster
import Testing

@testable import KubernetesAPI

/// Objects that are nested deeper than a parser goes, as any tenant may make one.
struct NestingTests {
    private func deep(_ name: String, levels: Int) -> String {
        let (open, end) = (#"{"x":["]}\\",{"y":"#, "}]}")
        let spec = String(repeating: open, count: levels) + "1" + String(repeating: end, count: levels)
        return #"{"spec":\#(spec),"metadata":{"name":"\#(name)","uid":"u","resourceVersion":"7"}}"#
    }

    @Test func `such an object is read with all others of its page`() throws {
        let page = #"{"metadata":{"continue":"more"},"items":[\#(deep("a", levels: 400)),\#(deep("b", levels: 2))]}"#
        let read = try JSONDecoder.decode(ListPage<Named>.self, nestedIn: ByteBuffer(string: page))
        #expect(read.metadata.continue == "more")
        #expect(read.items?.map { $0.object?.name } == ["a", "b"] && read.items?[0].reference.resourceVersion == "7")
    }

    @Test func `a watch tells of it`() async throws {
        try await withClient { cluster, client in
            try await withThrowingTaskGroup(of: Void.self) { group in
                let (names, told) = AsyncStream.makeStream(of: String?.self)
                group.addTask {
                    defer { told.finish() }
                    try await client.watch(Named.self, .pods, from: "0") { event in
                        if case .added(let listed) = event { told.yield(listed.object?.name) }
                    }
                }
                let deadline = ContinuousClock.now + .seconds(30)
                while cluster.watchCount == 0, .now < deadline { try await Task.sleep(for: .milliseconds(2)) }
                cluster.inject(#"{"type":"ADDED","object":\#(deep("a", levels: 400))}"#, into: .pods)
                #expect(await names.first { _ in true } == "a")
                group.cancelAll()
            }
        }
    }

    @Test func `only what is nested too deep is left out`() throws {
        func cut(_ json: String) -> String { String(buffer: ByteBuffer(string: json).jsonWithoutNesting(beyond: 2)) }
        #expect(cut(#"{"a":[{"b":[1]},2,[]],"c":{}}"#) == #"{"a":[null,2,null],"c":{}}"#)
        #expect(cut(#"[["[\"[",["]"],"\\"]]"#) == #"[["[\"[",null,"\\"]]"#)
    }
}
