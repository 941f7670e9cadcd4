import IPAMModel
import Testing

@Suite struct TimestampTests {
    @Test(arguments: [
        (0, "1970-01-01T00:00:00Z"), (951_782_400, "2000-02-29T00:00:00Z"), (951_868_799, "2000-02-29T23:59:59Z"),
        (1_709_164_800, "2024-02-29T00:00:00Z"), (4_107_542_400, "2100-03-01T00:00:00Z"), (-1, "1969-12-31T23:59:59Z"),
        (1_798_761_599, "2026-12-31T23:59:59Z"),
    ])
    func `a time prints as RFC 3339`(seconds: Int64, text: String) {
        #expect(Timestamp(seconds: seconds).description == text)
    }

    @Test func `a fraction is printed where there is one`() {
        #expect(Timestamp(nanoseconds: 1_000_000_050).description == "1970-01-01T00:00:01.000000050Z")
        #expect(Timestamp(nanoseconds: -1).description == "1969-12-31T23:59:59.999999999Z")
    }

    @Test func `times that are too far away are the farthest there are`() {
        #expect(Timestamp(seconds: .max).nanoseconds == .max && Timestamp(seconds: .min).nanoseconds == .min)
        #expect(Delay.seconds(.max).nanoseconds == .max && Delay.seconds(-5).nanoseconds == 0)
        #expect(Timestamp(seconds: 1).advanced(by: .seconds(.max)).nanoseconds == .max)
        #expect(Timestamp(seconds: .max).description == "2262-04-11T23:47:16.854775807Z")
        #expect(Timestamp(seconds: .min).description == "1677-09-21T00:12:43.145224192Z")
    }
}
