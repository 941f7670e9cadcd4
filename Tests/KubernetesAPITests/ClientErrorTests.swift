import KubernetesAPI
import TestCluster
import Testing

/// What the API server may do instead of answering, and what becomes of it.
struct ClientErrorTests {
    private struct Body: Encodable, Sendable {
        struct Metadata: Encodable, Sendable {
            var name: String?
            var annotations: [String: String?]?
        }
        var apiVersion = "v1"
        var kind = "Pod"
        var metadata: Metadata
    }

    private func failure(_ body: () async throws(KubernetesError) -> Void) async throws -> KubernetesError {
        do {
            try await body()
        } catch {
            return error
        }
        throw ClusterError.notFound("an error")
    }

    @Test func `a list whose continue token has expired starts over, and is whole`() async throws {
        try await withClient { cluster, client in
            for index in 10..<20 { try cluster.put(pod("p\(index)")) }
            cluster.fail("list", .pods, status: 410, passing: 2)
            let list = try await client.list(Named.self, .pods, pageSize: 4)
            #expect(list.objects.map(\.name) == (10..<20).map { "p\($0)" })
            #expect(cluster.requests.map(\.status) == [200, 200, 410, 200, 200, 200])
        }
    }

    @Test func `a list whose tokens expire again and again is fetched in one piece at last`() async throws {
        try await withClient { cluster, client in
            for index in 10..<20 { try cluster.put(pod("p\(index)")) }
            cluster.fail("list", .pods, status: 410, passing: 1)
            cluster.fail("list", .pods, status: 410, passing: 1)
            let list = try await client.list(Named.self, .pods, pageSize: 4)
            #expect(list.objects.count == 10)
            #expect(cluster.requests.last?.query["limit"] == nil && cluster.requests.last?.items == 10)
        }
    }

    @Test func `a list that fails on a later page is an error, never a part`() async throws {
        try await withClient { cluster, client in
            for index in 10..<20 { try cluster.put(pod("p\(index)")) }
            cluster.fail("list", .pods, status: 500, passing: 2, times: 2)
            let error = try await failure { () throws(KubernetesError) in
                _ = try await client.list(Named.self, .pods, pageSize: 4)
            }
            #expect(error.code == .serverError && error.isTransient)
        }
    }

    @Test func `a page that is lost is fetched once more, and those before it are not`() async throws {
        try await withClient { cluster, client in
            for index in 10..<20 { try cluster.put(pod("p\(index)")) }
            cluster.fail("list", .pods, status: 500, passing: 2)
            let list = try await client.list(Named.self, .pods, pageSize: 4)
            #expect(list.objects.map(\.name) == (10..<20).map { "p\($0)" })
            #expect(cluster.requests.map(\.status) == [200, 200, 500, 200])
        }
    }

    @Test func `an object that cannot be decoded breaks no list, and makes it incomplete`() async throws {
        try await withClient { cluster, client in
            try cluster.put(pod("a"))
            try cluster.put(pod("b", labels: #"{"x":5}"#))
            try cluster.put(pod("c"))
            let list = try await client.list(Named.self, .pods)
            #expect(list.objects.map(\.name) == ["a", "c"] && list.items.count == 3)
            #expect(list.items[1].reference.description == "default/b" && list.items[1].problem?.contains("x") == true)
        }
    }

    @Test func `a server that has too much to do is asked again when it says so, a few times`() async throws {
        try await withClient { cluster, client in
            try cluster.put(pod("a"))
            cluster.fail("get", .pods, status: 429, retryAfter: 0, times: 2)
            #expect(try await client.get(Named.self, .pods, namespace: "default", name: "a")?.name == "a")
            #expect(cluster.requests.map(\.status) == [429, 429, 200])
            cluster.fail("get", .pods, status: 429, retryAfter: 0, times: 100)
            let busy = try await failure { () throws(KubernetesError) in
                _ = try await client.get(Named.self, .pods, namespace: "default", name: "a")
            }
            #expect(busy.code == .tooManyRequests && busy.retryAfter == .zero)
            #expect(cluster.requests.count < 10)
            cluster.recover()
            cluster.fail("get", .pods, status: 503, retryAfter: 30)
            let away = try await failure { () throws(KubernetesError) in
                _ = try await client.get(Named.self, .pods, namespace: "default", name: "a")
            }
            #expect(away.code == .serverError && away.retryAfter == .seconds(30))
        }
    }

    @Test func `a server that wants to be left alone for ages is not for more than a minute`() async throws {
        try await withClient { cluster, client in
            cluster.fail("get", .pods, status: 503, retryAfter: .max)
            let away = try await failure { () throws(KubernetesError) in
                _ = try await client.get(Named.self, .pods, namespace: "default", name: "a")
            }
            #expect(away.retryAfter == .seconds(60))
        }
    }

    @Test(arguments: [200, 503])
    func `an answer whose body does not come is given up at the call's own deadline`(status: Int) async throws {
        try await withClient { cluster, client in
            try cluster.put(pod("a"))
            cluster.delayBody(.seconds(10))
            if status != 200 { cluster.fail("get", .pods, status: status) }
            let start = ContinuousClock.now
            let late = try await failure { () throws(KubernetesError) in
                _ = try await client.get(
                    Named.self, .pods, namespace: "default", name: "a", by: start + .milliseconds(500))
            }
            #expect(.now - start < .seconds(5))
            #expect(late.code == (status == 200 ? .unreachable : .serverError), "\(late)")
        }
    }

    @Test func `a namespace that is being deleted is no right that lacks`() async throws {
        try await withClient { cluster, client in
            cluster.fail("create", status: 403, cause: "NamespaceTerminating")
            let error = try await failure { () throws(KubernetesError) in
                try await client.create(.pods, namespace: "default", Body(metadata: .init(name: "a")))
            }
            #expect(error.code == .notFound && error.message.contains("being deleted"), "\(error.message)")
            #expect(!error.message.contains("ClusterRole"), "\(error.message)")
        }
    }

    @Test func `what RBAC lacks is named by verb and resource`() async throws {
        try await withClient { cluster, client in
            cluster.fail(status: 403)
            let error = try await failure { () throws(KubernetesError) in
                _ = try await client.list(
                    Named.self, KubernetesResource(group: "kubevirt.io", version: "v1", plural: "virtualmachines"))
            }
            #expect(error.code == .forbidden && !error.isTransient)
            #expect(
                error.message.contains(#"the verb "list" on "virtualmachines" of API group "kubevirt.io""#),
                "\(error.message)")
            #expect(error.message.contains("system:serviceaccount:holdfast:agent"))
        }
    }

    @Test func `a server that is silent is given up, whether it connects or not`() async throws {
        try await withClient({ $0.head = .milliseconds(300) }) { cluster, client in
            cluster.delay(.seconds(30))
            let silent = try await failure { () throws(KubernetesError) in
                _ = try await client.get(Named.self, .pods, namespace: "default", name: "a")
            }
            #expect(silent.code == .unreachable && silent.isTransient)
            await cluster.stop()
            let gone = try await failure { () throws(KubernetesError) in
                _ = try await client.get(Named.self, .pods, namespace: "default", name: "a")
            }
            #expect(gone.code == .unreachable)
            #expect(gone.message.contains("refused"), "\(gone.message)")
        }
    }

    @Test func `a list is waited for longer than one object`() async throws {
        try await withClient({ $0.head = .milliseconds(100) }) { cluster, client in
            try cluster.put(pod("a"))
            cluster.delay(.seconds(1))
            let late = try await failure { () throws(KubernetesError) in
                _ = try await client.get(Named.self, .pods, namespace: "default", name: "a")
            }
            #expect(late.code == .unreachable)
            #expect(try await client.list(Named.self, .pods).objects.map(\.name) == ["a"])
        }
    }

    @Test func `a slow start is waited for`() async throws {
        try await withClient { cluster, client in
            try cluster.put(pod("a"))
            cluster.delay(.milliseconds(200))
            #expect(try await client.get(Named.self, .pods, namespace: "default", name: "a")?.name == "a")
        }
    }

    @Test func `a cancelled call ends as cancelled`() async throws {
        try await withClient { cluster, client in
            cluster.delay(.seconds(30))
            let call = Task {
                try await failure { () throws(KubernetesError) in
                    _ = try await client.get(Named.self, .pods, namespace: "default", name: "a")
                }
            }
            call.cancel()
            let error = try await call.value
            #expect(error.code == .cancelled)
        }
    }

    @Test func `an object is made once, and changed by a merge that can take away`() async throws {
        try await withClient { cluster, client in
            let body = Body(metadata: .init(name: "a", annotations: ["x": "1", "y": "2"]))
            try await client.create(.pods, namespace: "default", body)
            let again = try await failure { () throws(KubernetesError) in
                try await client.create(.pods, namespace: "default", body)
            }
            #expect(again.code == .alreadyExists)
            try await client.patch(
                .pods, namespace: "default", name: "a",
                merge: ["metadata": ["annotations": ["x": String?.none, "z": "3"]]])
            let pod = try await client.get(Named.self, .pods, namespace: "default", name: "a")
            #expect(pod?.metadata.annotations == ["y": "2", "z": "3"])
            try await client.patch(
                .podStatus, namespace: "default", name: "a", merge: ["metadata": ["annotations": ["y": String?.none]]])
            #expect(
                try await client.get(Named.self, .pods, namespace: "default", name: "a")?.metadata.annotations == [
                    "z": "3"
                ])
            #expect(cluster.requests.contains { $0.verb == "patch" && $0.resource.description == "pods/status" })
            let missing = try await failure { () throws(KubernetesError) in
                try await client.patch(.pods, namespace: "default", name: "b", merge: ["metadata": [String: String]()])
            }
            #expect(missing.code == .notFound)
        }
    }

    @Test func `a watch that is cut in the middle of an event, or silent, is told from one that ended`() async throws {
        try await withClient({ $0.watchSilence = .milliseconds(300) }) { cluster, client in
            func watch(_ disturb: () -> Void) async throws -> KubernetesError? {
                let version = try cluster.put(pod("a"))
                try cluster.put(pod("b"))
                var error: KubernetesError?
                do throws(KubernetesError) {
                    try await client.watch(Named.self, .pods, from: "\(version)") { _ in disturb() }
                } catch let failure {
                    error = failure
                }
                return error
            }
            let ended = try await watch { cluster.endWatches() }
            #expect(ended == nil)
            let cut = try await watch { cluster.endWatches(inMidLine: true) }
            #expect(cut?.code == .unreachable)
            let silent = try await watch { cluster.freezeWatches() }
            #expect(silent?.code == .unreachable)
        }
    }

    @Test(arguments: [false, true])
    func `a version that is too old is told as gone, by status or by event`(asEvent: Bool) async throws {
        try await withClient { cluster, client in
            let version = try cluster.put(pod("a"))
            try cluster.put(pod("b"))
            cluster.compact(asEvent: asEvent)
            let error = try await failure { () throws(KubernetesError) in
                try await client.watch(Named.self, .pods, from: "\(version)") { _ in }
            }
            #expect(error.code == .gone)
        }
    }
}
