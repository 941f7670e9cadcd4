import Addresses
import CMessages
import IPAMModel
import Testing

@testable import IPAMAPI
@testable import RPC

/// Messages to model and back.
@Suite struct WireTests {
    let owner = Owner(kind: .virtualMachine, namespace: "default", name: "testvm", uid: "u-1", network: "vm-net/eth0")
    let pod = Attachment(
        node: "node-a", pod: "virt-launcher-testvm-x", podUID: "p-1", containerID: "c-1",
        createdAt: Timestamp(nanoseconds: -1_500_000_000))

    @Test("a request comes back as it was sent") func requests() throws {
        let arena = MessageArena()
        let mac = MACAddress("02:00:0a:10:00:0f")
        let addresses = ["10.16.0.15", "fd00::15"].compactMap(IPAddress.init)
        for request in [
            AllocateRequest(owner: owner, attachment: pod, pool: "vm-net", addresses: addresses, mac: mac),
            AllocateRequest(owner: owner), AllocateRequest(owner: owner, pool: "vm-net", poolRevision: 7),
            AllocateRequest(owner: owner, attachment: pod, keepsCopy: true),
        ] {
            #expect(try unsafe AllocateRequest(request.wire(in: arena).pointee) == request)
        }
        for request in [
            ReleaseRequest.binding(owner), .attachment(pod.id, owner: owner, network: owner.network),
            .attachment(pod.id, owner: nil, network: owner.network),
        ] {
            #expect(try unsafe ReleaseRequest(request.wire(in: arena).pointee) == request)
        }
        let other = Owner(kind: .virtualMachine, namespace: "b", name: "testvm", network: "vm-net/eth0")
        for phase in [
            TransferPhase.prepare(target: pod), .prepare(target: pod, targetOwner: other), .commit(targetOwner: nil),
            .commit(targetOwner: other), .abort,
        ] {
            let request = TransferRequest(owner: owner, migrationUID: "m-1", phase: phase)
            #expect(try unsafe TransferRequest(request.wire(in: arena).pointee) == request)
        }
        for query in [BindingQuery.owner(owner), .address(addresses[0])] {
            #expect(try unsafe BindingQuery(query.wire(in: arena).pointee) == query)
        }
    }

    @Test(
        "a page is as large as is asked for, 100 where nothing is, and 1000 at most",
        arguments: [(0, 100), (1, 1), (100, 100), (999, 999), (1000, 1000), (1001, 1000), (Int(UInt32.max), 1000)])
    func pageSizes(asked: Int, granted: Int) throws {
        let arena = MessageArena()
        #expect(PageSize.granted(asked) == granted)
        let bindings = BindingListing(filter: BindingFilter(), pageSize: asked, pageToken: nil)
        #expect(try unsafe BindingListing(bindings.wire(in: arena).pointee).pageSize == granted)
        let history = HistoryListing(subject: .object(namespace: "a", name: "b"), pageSize: asked)
        #expect(try unsafe HistoryListing(history.wire(in: arena).pointee).pageSize == granted)
    }

    @Test("a renewal comes back as it was sent, and a larger one is refused") func renewals() throws {
        let arena = MessageArena()
        var request = RenewCopiesRequest(
            node: "node-a", copies: [BindingCopy(owner: owner, revision: 7)],
            dropped: [DroppedCopy(owner: owner, ticket: 3)])
        #expect(try unsafe RenewCopiesRequest(request.wire(in: arena).pointee) == request)
        request.copies = Array(repeating: request.copies[0], count: RenewCopiesRequest.largestCount + 1)
        let error = #expect(throws: IPAMError.self) { try unsafe RenewCopiesRequest(request.wire(in: arena).pointee) }
        #expect(error?.code == .invalidArgument && error?.metadata["field"] == "copies")
    }

    @Test("a field that a phase or scope has no use for must make sense all the same") func unused() throws {
        let arena = MessageArena()
        let nobody = Attachment(node: "node-a", pod: "p", podUID: "", containerID: "")
        let strange = Attachment(node: "no node", pod: "p", podUID: "p-1", containerID: "c-1")
        for phase in [TransferPhase.prepare(target: pod), .commit(targetOwner: nil), .abort] {
            let request = TransferRequest(owner: owner, migrationUID: "m-1", phase: phase)
            let message = unsafe request.wire(in: arena)
            if phase == .commit(targetOwner: nil) || phase == .abort {
                for (target, field) in [(nobody, "target.pod_uid"), (strange, "target.node")] {
                    unsafe message.pointee.target = target.wire(in: arena)
                    let error = #expect(throws: IPAMError.self) { try unsafe TransferRequest(message.pointee) }
                    #expect(error?.metadata["field"] == field)
                }
                unsafe message.pointee.target = pod.wire(in: arena)
                #expect(try unsafe TransferRequest(message.pointee) == request)
            }
            if phase == .abort {
                unsafe message.pointee.target_owner = owner.wire(in: arena)
                #expect(try unsafe TransferRequest(message.pointee) == request)
                unsafe message.pointee.target_owner.pointee.name = arena.string("two words")
                let error = #expect(throws: IPAMError.self) { try unsafe TransferRequest(message.pointee) }
                #expect(error?.metadata["field"] == "target_owner.name")
            }
        }
        for request in [ReleaseRequest.binding(owner), .attachment(pod.id, owner: owner, network: owner.network)] {
            let message = unsafe request.wire(in: arena)
            unsafe message.pointee.attachment = pod.wire(in: arena)
            #expect(try unsafe ReleaseRequest(message.pointee) == request)
            unsafe message.pointee.attachment.pointee.created_at.pointee.nanos = -1
            let time = #expect(throws: IPAMError.self) { try unsafe ReleaseRequest(message.pointee) }
            #expect(time?.metadata["field"] == "attachment.created_at")
            unsafe message.pointee.attachment = strange.wire(in: arena)
            let node = #expect(throws: IPAMError.self) { try unsafe ReleaseRequest(message.pointee) }
            #expect(node?.metadata["field"] == "attachment.node")
        }
    }

    @Test("a binding, a page, an event and a pool come back as they were sent") func answers() throws {
        let arena = MessageArena()
        let address = try #require(IPAddress("10.16.0.15"))
        let prefix = try #require(IPPrefix("10.16.0.0/16"))
        let described = DescribedBinding(
            binding: Binding(
                owner: owner, pool: "vm-net",
                assignments: [Assignment(address: address, prefixLength: 16, gateway: IPAddress("10.16.0.1"))],
                mac: try #require(MACAddress("02:00:0a:10:00:0f")), active: pod, target: pod, migrationUID: "m-1",
                revision: 7, createdAt: Timestamp(nanoseconds: 1), updatedAt: Timestamp(seconds: 2)),
            routes: [Route(destination: prefix)], dns: DNS(nameservers: [address], search: ["a"]))
        #expect(try unsafe DescribedBinding(described.wire(in: arena).pointee) == described)
        var copied = described
        copied.copyValidFor = .seconds(60)
        #expect(try unsafe DescribedBinding(copied.wire(in: arena).pointee) == copied)
        let renewed = [
            RenewedCopy(validFor: Delay(nanoseconds: 1_500_000_000)),
            RenewedCopy(validFor: .seconds(60), binding: described), RenewedCopy(validFor: nil, ticket: 9),
        ]
        #expect(try unsafe [RenewedCopy](renewed.wire(in: arena).pointee) == renewed)
        let page = BindingPage(bindings: [described, described], nextPageToken: "t", revision: 9)
        #expect(try unsafe BindingPage(page.wire(in: arena).pointee) == page)
        for event in [
            BindingEvent(kind: .freed, binding: described, revision: 8),
            BindingEvent(kind: .synced, binding: nil, revision: 8),
        ] {
            #expect(try unsafe BindingEvent(event.wire(in: arena).pointee) == event)
        }
        let pool = DescribedPool(
            pool: Pool(
                name: "vm-net",
                prefixes: [
                    PoolPrefix(
                        prefix: prefix, gateway: IPAddress("10.16.0.1"),
                        excluded: [AddressRange(from: address, through: address)])
                ],
                namespaces: ["default"], routes: described.routes, dns: described.dns, isDefault: true,
                reuseDelay: Delay(nanoseconds: 1_500_000_000), namespaceQuota: 3,
                historyRetention: Delay(nanoseconds: 7_200_000_000_001), revision: 4),
            usage: [PrefixUsage(prefix: prefix, total: .max, bound: 1, reserved: 2, quarantined: 3, free: 4)])
        #expect(try unsafe DescribedPool(pool.wire(in: arena).pointee) == pool)
    }

    /// Its ledger may be older than the rule.
    @Test func `what a request may not hold is read all the same where a server answers it`() throws {
        let arena = MessageArena()
        func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }
        let usual = Pool(name: "p", prefixes: [PoolPrefix(prefix: try #require(IPPrefix("10.0.0.0/8")))])
        let excluded = AddressRange(from: try address("10.0.0.9"), through: try address("10.0.0.9"))
        let mapped = try #require(IPPrefix("::ffff:0:0/96"))
        let changes: [(field: String, change: (inout Pool) throws -> Void)] = [
            ("name", { $0.name = "two words" }),
            ("prefixes", { $0.prefixes = [] }),
            ("prefixes[0].prefix", { $0.prefixes[0].prefix = mapped }),
            ("prefixes[0].gateway", { $0.prefixes[0].gateway = try address("127.0.0.1") }),
            (
                "prefixes[].excluded",
                {
                    $0.prefixes[0].excluded = Array(repeating: excluded, count: 1000)
                    $0.prefixes = Array(repeating: $0.prefixes[0], count: 17)
                }
            ),
            ("namespaces[0]", { $0.namespaces = ["a.b"] }),
            ("routes[0].gateway", { $0.routes = [Route(destination: mapped, gateway: try address("::"))] }),
            ("dns.nameservers[0]", { $0.dns = DNS(nameservers: [try address("::ffff:10.0.0.1")]) }),
            ("dns.domain", { $0.dns = DNS(domain: "two words") }),
            ("dns.search[0]", { $0.dns = DNS(search: ["two words"]) }),
            ("dns.options[0]", { $0.dns = DNS(options: ["two words"]) }),
            ("reuse_delay", { $0.reuseDelay = .seconds(400 * 86_400) }),
            ("history_retention", { $0.historyRetention = .seconds(400 * 86_400) }),
        ]
        for (field, change) in changes {
            var pool = DescribedPool(pool: usual)
            try change(&pool.pool)
            let message = unsafe pool.wire(in: arena)
            let error = #expect(throws: IPAMError.self, "\(field)") { try unsafe Pool(message) }
            #expect(error?.metadata["field"] == "pool.\(field)")
            #expect(try unsafe DescribedPool(message.pointee) == pool, "\(field)")
        }

        let strange = Attachment(node: "no node", pod: "two words", podUID: "", containerID: "")
        let binding = DescribedBinding(
            binding: Binding(
                owner: Owner(kind: .pod, namespace: "a.b", name: "-", uid: "two words", network: ""), pool: "a b",
                assignments: [
                    Assignment(address: try address("::ffff:10.0.0.1"), prefixLength: 96, gateway: try address("::"))
                ],
                mac: try #require(MACAddress("01:00:00:00:00:00")), active: strange, target: strange, revision: 1,
                createdAt: Timestamp(seconds: 1), updatedAt: Timestamp(seconds: 1)),
            copyValidFor: .seconds(400 * 86_400))
        #expect(try unsafe DescribedBinding(binding.wire(in: arena).pointee) == binding)
        let page = HistoryPage(entries: [HistoryEntry(binding.binding)])
        #expect(try unsafe HistoryPage(page.wire(in: arena).pointee) == page)
    }

    @Test(
        "to try again is worth it where only an answer or time is missing",
        arguments: [
            (IPAMError(.unavailable, .noAnswer, ""), true), (IPAMError(.unavailable, .storeUnavailable, ""), true),
            (IPAMError(.aborted, .watchTooSlow, ""), true),
            (IPAMError(.failedPrecondition, .addressQuarantined, ""), true),
            (IPAMError(.resourceExhausted, .poolExhausted, "", metadata: ["availableAt": "t"]), true),
            (IPAMError(.resourceExhausted, .poolExhausted, ""), false),
            (IPAMError(.failedPrecondition, .poolInUse, "", metadata: ["availableAt": "t"]), true),
            (IPAMError(.failedPrecondition, .poolInUse, ""), false),
            (IPAMError(.resourceExhausted, .quotaExceeded, ""), false),
            (IPAMError(.aborted, .poolChanged, ""), false), (IPAMError(.permissionDenied, .noAnswer, ""), false),
        ])
    func retries(error: IPAMError, isRetryable: Bool) {
        #expect(error.isRetryable == isRetryable)
    }

    @Test("an error keeps its code, reason and metadata over the wire") func errors() {
        for code in IPAMError.Code.allCases {
            let error = IPAMError(code, .addressTaken, "10.16.0.15 is taken", metadata: ["holder": "vm default/testvm"])
            #expect(IPAMError(error.status) == error)
        }
        #expect(IPAMError(RPCStatus(.deadlineExceeded, "late")).code == .unavailable)
    }

    @Test("a watch that was broken off was too slow, and how others end is told") func endOfWatch() {
        #expect(IPAMError(endOfWatch: RPCStatus(.aborted, "slow")) == IPAMError(.aborted, .watchTooSlow, "slow"))
        let error = IPAMError(.unavailable, .notLeader, "another leads")
        #expect(IPAMError(endOfWatch: error.status) == error)
        #expect(IPAMError(endOfWatch: RPCStatus(.unavailable, "gone")).reason == .noAnswer)
    }
}
