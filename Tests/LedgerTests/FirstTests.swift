import Addresses
import IPAMModel
import Ledger
import Testing

@Suite struct FirstTests {
    @Test func `a VM gets the lowest address and keeps it`() throws {
        var bench = try Bench(pool("net", poolPrefix("10.16.0.0/24", gateway: "10.16.0.1"), isDefault: true))
        let first = try bench.allocate(vm("a"), sandbox("a-1"))
        #expect(first.addresses == ["10.16.0.2"])
        #expect(first.state == .bound)
        #expect(first.mac.bytes[0] == 2)
        try bench.release(sandbox("a-1"), of: vm("a"))
        #expect(try bench.allocate(vm("b")).addresses == ["10.16.0.3"])
        #expect(try bench.allocate(vm("a"), sandbox("a-2")).addresses == first.addresses)
    }
}
