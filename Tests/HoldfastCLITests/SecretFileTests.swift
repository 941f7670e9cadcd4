import Foundation
import Program
import Testing

/// Tokens and passwords in files that others replace.
struct SecretFileTests {
    private let folder = FileManager.default.temporaryDirectory.appending(path: "holdfast-secret-\(UUID())")

    private func write(_ text: String) throws -> String {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let file = folder.appending(path: "secret")
        try Data(text.utf8).write(to: file)
        return file.path
    }

    @Test func `a password keeps its spaces, a token has none around it, and neither has the line's end`() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let password = try write(" a b \r\n\n")
        #expect(try SecretFile(.password, path: password, option: "--x").current == " a b ")
        let token = try write(" a.b \r\n\n")
        #expect(try SecretFile(.token, path: token, option: "--x").current == "a.b")
    }

    @Test func `it is as the file has it now, and as it was last where that says nothing`() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = try write("first")
        let secret = try SecretFile(.token, path: path, option: "--x")
        _ = try write("second\n")
        #expect(secret.current == "second")
        for none in ["\n", "of two\nlines", "\u{e9}", "a\u{7f}"] {
            _ = try write(none)
            #expect(secret.current == "second")
        }
        try FileManager.default.removeItem(atPath: path)
        #expect(secret.current == "second")
    }

    @Test func `what is wrong is said with the option and the file`() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let empty = try write(" \n")
        for (path, why) in [
            (empty, "there is no token in it"), (folder.path + "/missing", "cannot be read: No such file"),
        ] {
            #expect { try SecretFile(.token, path: path, option: "--token-file") } throws: { error in
                "\(error)".contains("--token-file \(path)") && "\(error)".contains(why)
            }
        }
        let wrapped = try write("eyJ.first\nsecond\n")
        #expect { try SecretFile(.token, path: wrapped, option: "--token-file") } throws: { error in
            "\(error)".contains("this is no token") && !"\(error)".contains("eyJ")
        }
    }
}
