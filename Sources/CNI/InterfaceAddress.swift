package import Addresses

/// An address with its prefix's length, as a result writes it: "10.16.0.15/16".
package struct InterfaceAddress: Hashable, Sendable, CustomStringConvertible {
    package var address: IPAddress
    package var prefixLength: Int

    package init(address: IPAddress, prefixLength: Int) {
        self.address = address
        self.prefixLength = prefixLength
    }

    package init?(_ text: String) {
        guard let (address, length) = IPPrefix.split(text) else { return nil }
        self.init(address: address, prefixLength: length)
    }

    package var description: String { "\(address)/\(prefixLength)" }
}
