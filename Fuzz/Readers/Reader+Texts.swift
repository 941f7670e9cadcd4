import Addresses
import IPAMModel

@testable import IPAMAPI
@testable import KubeVirt
@testable import Ledger
@testable import Program

extension Reader {
    static let texts = [
        Reader(name: "addresses") { bytes in
            let text = String(decoding: bytes, as: UTF8.self)
            try roundTrip(IPAddress.self, text)
            try roundTrip(IPPrefix.self, text)
            try roundTrip(AddressRange.self, text)
            try roundTrip(MACAddress.self, text)
            if let address = HostPort(text) { try expectSame(address, HostPort("\(address)"), "HOST:PORT") }
            _ = try? Rules.delay(text, "delay")
            _ = Timestamp(rfc3339: text)
        },
        Reader(name: "page-tokens") { bytes in
            let token = String(decoding: bytes, as: UTF8.self)
            _ = try? Ledger().bindings(matching: BindingFilter(), after: token, limit: 10)
        },
    ]
}

private func roundTrip<Value: LosslessStringConvertible & Equatable>(_: Value.Type, _ text: String) throws {
    guard let value = Value(text) else { return }
    try expectSame(value, Value(value.description), "\(Value.self)")
}
