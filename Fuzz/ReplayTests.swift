import Foundation
import Testing

/// Every input that taught a fuzzer something, and those that have once found something, in each test run.
@Suite struct ReplayTests {
    private static let corpora = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Corpora")

    @Test(arguments: Reader.all.map { $0.name }) func `no input of the corpus breaks its reader`(name: String) throws {
        let reader = try #require(Reader.all.first { $0.name == name })
        let folder = Self.corpora.appending(path: name)
        let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
        #expect(!files.isEmpty)
        for file in files.sorted(by: { $0.path < $1.path }) {
            let bytes = Array(try Data(contentsOf: file))
            do { try reader.read(bytes) } catch { Issue.record("\(name)/\(file.lastPathComponent): \(error)") }
            // And cut short, as a connection or a disk may leave it.
            for length in stride(from: 0, to: bytes.count, by: max(1, bytes.count / 16)) {
                do { try reader.read(Array(bytes.prefix(length))) } catch {
                    Issue.record("\(name)/\(file.lastPathComponent), its first \(length) bytes: \(error)")
                }
            }
        }
    }

    @Test func `every corpus has its reader`() throws {
        let folders = try FileManager.default.contentsOfDirectory(atPath: Self.corpora.path)
        #expect(Set(folders) == Set(Reader.all.map { $0.name }))
    }
}
