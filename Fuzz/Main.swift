import Foundation

/// `FUZZ_READER=NAME holdfast-fuzz [libFuzzer's arguments]`, or the names: see README.md. libFuzzer starts itself again
/// where it merges, with its own arguments only.
@main
enum Fuzz {
    // nonisolated(unsafe): set once before the first input.
    nonisolated(unsafe) private static var reader = Reader.all[0]

    static func main() {
        let arguments = CommandLine.arguments
        let name = ProcessInfo.processInfo.environment["FUZZ_READER"]
        guard let reader = Reader.all.first(where: { $0.name == name }) else {
            print(Reader.all.map { $0.name }.joined(separator: "\n"))
            exit(name == nil ? 0 : 2)
        }
        self.reader = reader
        var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        var argc = CInt(argv.count - 1)
        argv.withUnsafeMutableBufferPointer { buffer in
            var base = buffer.baseAddress
            exit(runDriver(&argc, &base) { bytes, count in Fuzz.take(UnsafeBufferPointer(start: bytes, count: count)) })
        }
    }

    private static func take(_ bytes: UnsafeBufferPointer<UInt8>) -> CInt {
        do {
            try reader.read(Array(bytes))
        } catch {
            fatalError("\(reader.name): \(error)")
        }
        return 0
    }
}

/// https://llvm.org/docs/LibFuzzer.html#using-libfuzzer-as-a-library
@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ argc: UnsafeMutablePointer<CInt>,
    _ argv: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
    _ take: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt
