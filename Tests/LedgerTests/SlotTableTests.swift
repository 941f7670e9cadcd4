import Addresses
import IPAMModel
import Testing

@testable import Ledger

@Suite struct SlotTableTests {
    private func binding(_ number: Int) -> Binding {
        Binding(
            owner: Owner(kind: .pod, namespace: "default", name: "pod-\(number)", network: "vm-net/eth0"),
            pool: "vm-net",
            assignments: [], mac: MACAddress(bits: UInt64(number)), revision: 0, createdAt: Timestamp(seconds: 0),
            updatedAt: Timestamp(seconds: 0))
    }

    @Test func `has what an array has, also where a block ends and after a copy has changed`() {
        var (table, array) = (SlotTable(), [Binding?]())
        for number in 0..<1000 {
            table.append(number % 3 == 0 ? nil : binding(number))
            array.append(number % 3 == 0 ? nil : binding(number))
            #expect(table.count == array.count)
        }
        let copy = table
        for slot in [0, 1, 255, 256, 257, 511, 512, 998, 999] {
            table[slot] = slot % 2 == 0 ? nil : binding(10_000 + slot)
            #expect(table[slot]?.mac == (slot % 2 == 0 ? nil : binding(10_000 + slot).mac))
        }
        #expect(Array(copy) == array)
        #expect(zip(table, array).filter { $0 != $1 }.count == 8)
        #expect(table.indices == 0..<1000)
    }
}
