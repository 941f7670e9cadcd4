import CMessages
import Testing

@testable import RPC

@Suite struct WireTextTests {
    private func decode<M: ProtobufMessage>(_ type: M.Type, _ bytes: [UInt8]) throws(RPCStatus) {
        let result = unsafe bytes.withUnsafeBufferPointer { bytes -> Result<Void, RPCStatus> in
            do throws(RPCStatus) {
                return unsafe .success(try MessageDecoder<M>().decode(bytes) { (_) throws(RPCStatus) in })
            } catch {
                return .failure(error)
            }
        }
        try result.get()
    }

    private func field(_ number: UInt8, _ bytes: [UInt8]) -> [UInt8] { [number << 3 | 2, UInt8(bytes.count)] + bytes }

    static let bad: [[UInt8]] = [
        [0], [0x61, 0, 0x62], [0x61, 0], [0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80],
        [0x61, 0xc3],
        Array("ü".utf8) + [0],
    ]

    @Test(arguments: bad)
    func `NUL and bad UTF-8 are refused wherever a string stands, and the field is named`(_ bad: [UInt8]) {
        let cases: [(String, [UInt8])] = [
            ("pool", field(3, bad)),
            ("owner.name", field(1, field(3, bad))),
            ("attachment.pod_uid", field(1, field(3, [0x61])) + field(2, field(3, bad))),
            ("addresses", field(4, [0x61]) + field(4, bad)),
        ]
        for (name, bytes) in cases {
            #expect(
                throws: RPCStatus(
                    .invalidArgument, "\(name): must be UTF-8 without NUL",
                    errorInfo: .init(reason: "INVALID_FIELD", domain: "holdfast", metadata: ["field": name]))
            ) { try unsafe decode(Holdfast__Ipam__V1__AllocateRequest.self, bytes) }
        }
        let nested = field(1, field(2, field(3, bad)))
        #expect { try unsafe decode(Holdfast__Ipam__V1__CreatePoolRequest.self, nested) } throws: {
            ($0 as? RPCStatus)?.errorInfo?.metadata["field"] == "pool.prefixes.excluded"
        }
        #expect { try unsafe decode(Google__Rpc__ErrorInfo.self, field(3, field(1, bad))) } throws: {
            ($0 as? RPCStatus)?.errorInfo?.metadata["field"] == "metadata.key"
        }
        #expect { try unsafe decode(Holdfast__Ipam__V1__GetBindingRequest.self, field(2, bad)) } throws: {
            ($0 as? RPCStatus)?.errorInfo?.metadata["field"] == "address"
        }
    }

    @Test func `good text, bytes fields and unknown fields pass`() throws {
        let good = ["", "a", "ü", "😀", "\u{10ffff}", "\u{7f}"].map { Array($0.utf8) }
        for text in good {
            try unsafe decode(
                Holdfast__Ipam__V1__AllocateRequest.self, field(1, field(3, text)) + field(4, text))
        }
        try unsafe decode(Google__Protobuf__Any.self, field(2, [0, 0xff]))
        try unsafe decode(Holdfast__Ipam__V1__AllocateRequest.self, field(15, [0, 0xff]))
        try unsafe decode(Holdfast__Ipam__V1__AllocateRequest.self, [])
    }

    @Test func `bytes that are no message are refused, however they are cut`() {
        let message = field(1, field(3, Array("name".utf8)) + [0x08, 0x81, 0x01]) + field(3, Array("pool".utf8))
        for count in 1..<message.count where count != message.count - 6 {
            #expect { try unsafe decode(Holdfast__Ipam__V1__AllocateRequest.self, Array(message[..<count])) } throws: {
                ($0 as? RPCStatus)?.errorInfo?.reason == "INVALID_MESSAGE"
            }
        }
        let seed = UInt64.random(in: 1 ... .max)
        print("noise seed \(seed)")
        var generator = SeededGenerator(state: seed)
        for _ in 0..<20_000 {
            let noise = (0..<Int.random(in: 1...40, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            do { try unsafe decode(Holdfast__Ipam__V1__ListBindingsResponse.self, noise) } catch { continue }
        }
    }

    @Test func `a small message that would grow without bound is refused`() {
        let bytes = [UInt8](repeating: 0, count: 600_000).enumerated().map { $0.offset % 2 == 0 ? UInt8(0x0a) : 0 }
        #expect { try unsafe decode(Holdfast__Ipam__V1__ListBindingsResponse.self, bytes) } throws: {
            let status = $0 as? RPCStatus
            return status?.code == .resourceExhausted && status?.errorInfo?.reason == "INVALID_MESSAGE"
        }
    }

    @Test func `messages within messages are read 64 deep`() throws {
        var bytes: [UInt8] = []
        for depth in 1...66 {
            // A length takes a second byte from 128 on.
            let length = bytes.count
            bytes =
                [(depth.isMultiple(of: 2) ? 2 : 4) << 3 | 2]
                + (length < 128 ? [UInt8(length)] : [UInt8(length & 127 | 128), 1]) + bytes
            guard depth.isMultiple(of: 2) else { continue }
            if depth <= 64 {
                try unsafe decode(Etcdserverpb__TxnRequest.self, bytes)
            } else {
                #expect { try unsafe decode(Etcdserverpb__TxnRequest.self, bytes) } throws: {
                    let status = $0 as? RPCStatus
                    return status?.code == .invalidArgument && status?.errorInfo?.reason == "INVALID_MESSAGE"
                }
            }
        }
    }

    @Test func `bad text in a request is refused over the wire`() async throws {
        try await withEcho { _, channel, _ in
            await #expect { try await sendBadName(channel) } throws: {
                ($0 as? RPCStatus)?.errorInfo?.metadata["field"] == "owner.name"
            }
        }
    }

    private func sendBadName(_ channel: RPCChannel) async throws {
        unsafe try await channel.unary(
            cmessages_holdfast_ipam_v1_ipam(), (),
            encode: { (_, arena) in
                let request = unsafe arena.make(Holdfast__Ipam__V1__TransferRequest.self)
                unsafe request.pointee.owner = unsafe arena.make(Holdfast__Ipam__V1__Owner.self)
                unsafe request.pointee.owner.pointee.name = unsafe arena.string("abc")
                unsafe request.pointee.owner.pointee.name[1] = -1
                return unsafe request
            },
            decode: { (_: UnsafePointer<Holdfast__Ipam__V1__TransferResponse>) throws(RPCStatus) in },
            timeout: .seconds(30))
    }
}
