// swift-tools-version: 6.2
import PackageDescription

// One table of settings. C is optimised in debug builds too; contraction is off so that a product
// and a sum round twice unless the code says fma; OpenMP comes from libomp5 (Debian's libomp-dev;
// the toolchain ships no omp.h and no runtime).
let c: [CSetting] = [
  .unsafeFlags(["-std=gnu17", "-O3", "-ffp-contract=off", "-fopenmp", "-Wall", "-Wextra"])
]
let swift: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"), .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
]

/// A room of the house: `Sources/<name>`, and what it may import (tools/check-imports holds the
/// same list).
func room(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .target(name: name, dependencies: dependencies, exclude: ["README.md"], swiftSettings: swift)
}
func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
  .testTarget(
    name: name, dependencies: dependencies + ["TestSupport"], exclude: exclude, swiftSettings: swift
  )
}

let package = Package(
  name: "pisces",
  products: [.executable(name: "pisces", targets: ["pisces"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.2", traits: []),
  ],
  targets: [
    .target(
      name: "CKernels", path: "CSupport/Kernels", exclude: ["README.md"],
      publicHeadersPath: "include", cSettings: c,
      linkerSettings: [.linkedLibrary("blis"), .linkedLibrary("omp5"), .linkedLibrary("m")]),
    .target(
      name: "CExact", path: "CSupport/Exact", publicHeadersPath: "include",
      cxxSettings: [.unsafeFlags(["-std=gnu++14", "-O2", "-Wno-deprecated-declarations"])]),
    .target(
      name: "CEmbedded", path: "CSupport/Embedded", exclude: ["models"],
      publicHeadersPath: "include", cSettings: [.unsafeFlags(["-std=gnu23"])]),
    .systemLibrary(
      name: "CPNG", path: "CSupport/PNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"])]),
    .systemLibrary(
      name: "CUtf8proc", path: "CSupport/Utf8proc", providers: [.apt(["libutf8proc-dev"])]),
    .systemLibrary(name: "CYAML", path: "CSupport/YAML", providers: [.apt(["libyaml-dev"])]),
    .systemLibrary(
      name: "CZlib", path: "CSupport/Zlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),

    room("TensorRuntime", ["CKernels"]),
    room("Layers", ["TensorRuntime"]),
    room("Models", ["Layers", "CUtf8proc"]),
    room("Diffusion", ["Models"]),
    room("Optimizers", ["Layers"]),
    room("Transport", ["Layers", "Optimizers", "CExact"]),
    room("World", ["TensorRuntime"]),
    room(
      "Files",
      [
        "TensorRuntime", "CEmbedded", "CPNG", "CZlib",
        .product(name: "Subprocess", package: "swift-subprocess"),
      ]),
    room("Configuration", ["Files", "CYAML"]),
    room("Training", ["TensorRuntime", "Layers", "Optimizers", "Files"]),
    room("Rewards", ["Transport", "Models"]),
    room("Pipelines", ["Training", "Models", "Diffusion", "Rewards", "Transport"]),
    room(
      "PostTraining", ["Training", "Models", "Diffusion", "Rewards", "Pipelines", "Configuration"]),
    room("Report", ["Files"]),
    room("Evaluation", ["Pipelines", "World"]),
    room(
      "Pretraining",
      ["Training", "Models", "Diffusion", "World", "Configuration", "Pipelines", "Transport"]),
    room("Demonstration", ["Pretraining", "PostTraining", "Evaluation", "Report"]),
    room("Diagnosis", ["Training", "Models"]),
    room(
      "Benchmarking", ["PostTraining", "Transport", "Optimizers", "Models", "Files", "Training"]),
    room("Conversion", ["Training", "Models"]),

    .executableTarget(
      name: "pisces",
      dependencies: [
        "Demonstration", "Pretraining", "PostTraining", "Evaluation", "Report", "Pipelines",
        "Diagnosis", "Benchmarking", "Conversion", "Configuration",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: swift),

    .target(
      name: "TestSupport",
      dependencies: [
        "TensorRuntime", "Layers", "Files",
        .product(name: "Subprocess", package: "swift-subprocess"),
      ], path: "Tests/TestSupport", swiftSettings: swift),
    tests("KernelTests", ["CKernels", "TensorRuntime"]),
    tests("LayerTests", ["Layers", "Optimizers", "TensorRuntime"]),
    tests("ModelTests", ["Models", "Layers", "TensorRuntime"]),
    tests(
      "GoldenTests",
      [
        "TensorRuntime", "Layers", "Models", "Pipelines", "Diffusion", "Optimizers", "Transport",
        "Rewards", "PostTraining", "Files",
      ]),
    tests(
      "PostTrainingTests",
      ["PostTraining", "Pipelines", "Rewards", "Diffusion", "Models", "Layers", "TensorRuntime"]),
    tests("FilesTests", ["Files", "TensorRuntime"], exclude: ["Clips"]),
    tests("TransportTests", ["Transport", "Layers", "Optimizers", "TensorRuntime"]),
    tests(
      "ConfigurationTests",
      ["Configuration", "Pretraining", "PostTraining", "Demonstration", "Files"]),
    tests("WorldTests", ["World", "TensorRuntime"]),
    tests(
      "ConversionTests",
      ["Conversion", "Diagnosis", "Training", "Models", "Layers", "Files", "TensorRuntime"]),
    tests("HouseTests", ["TensorRuntime", "Models", "Files"]),
    tests("CommandTests", ["pisces", "Files", "TensorRuntime"]),
  ]
)
