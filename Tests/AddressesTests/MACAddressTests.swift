import Addresses
import Testing

@Suite struct MACAddressTests {
    @Test(arguments: [
        ("02:00:0a:10:00:0f", "02:00:0a:10:00:0f"), ("02-00-0A-10-00-0F", "02:00:0a:10:00:0f"),
        ("ff:ff:ff:ff:ff:ff", "ff:ff:ff:ff:ff:ff"), ("00:00:00:00:00:00", "00:00:00:00:00:00"),
    ])
    func `six groups of two digits are a MAC`(text: String, printed: String) throws {
        let mac = try #require(MACAddress(text))
        #expect(mac.description == printed)
        #expect(MACAddress(bits: mac.bits) == mac)
    }

    @Test(arguments: [
        "", "02:00:0a:10:00", "02:00:0a:10:00:0f:01", "2:0:a:10:0:f", "02000a10000f", "0200.0a10.000f",
        "02:00-0a:10-00:0f", "02:00:0a:10:00:0g", "02:00:0a:10:00:0\0", " 2:00:0a:10:00:0f", "02:00:0a:10:00:é",
    ])
    func `other text is none`(text: String) {
        #expect(MACAddress(text) == nil)
    }

    @Test func `the group bit is the first byte's lowest`() throws {
        #expect(try #require(MACAddress("01:00:5e:00:00:01")).isMulticast)
        #expect(try !#require(MACAddress("02:00:00:00:00:00")).isMulticast)
        #expect(try !#require(MACAddress("fc:01:02:03:04:05")).isMulticast)
        #expect(MACAddress(bits: .max).bits == 0xffff_ffff_ffff)
    }
}
