// Quantization as part of an application: a recipe, progress, and Ctrl-C. A search that is stopped
// keeps what it has finished and goes on from there when the same command is given again.
#include <qvlm/qvlm.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>

namespace {

namespace fs = std::filesystem;

volatile std::sig_atomic_t interrupted = 0;

void on_interrupt(int) {
  interrupted = 1;
  std::signal(SIGINT, SIG_DFL);  // a second Ctrl-C ends the program at once
}

// Thrown out of the progress callback. Not a qvlm::Error: nothing went wrong.
struct Cancelled {};

// quantize() keeps finished blocks of a search here until the model is written.
bool was_stopped_before(const fs::path& out) {
  return fs::exists((out / "").parent_path().string() + ".search.json");
}

void show(const qvlm::Progress& progress) {
  std::fprintf(stderr, "%lld of %lld: %s\n", static_cast<long long>(progress.done),
               static_cast<long long>(progress.total), progress.what.c_str());
}

int run(const fs::path& model, const fs::path& out, const fs::path& recipe_file, const char* data) {
  const qvlm::Recipe recipe = qvlm::Recipe::load(recipe_file);
  const bool resumable = recipe.walks_decoder() || recipe.vision_encoder.has_value();
  const qvlm::QuantizeOptions options{
      .data = data,
      .resume = was_stopped_before(out),
      // A search asks after each block and ends there, so that it can be resumed.
      .stop_requested = [] { return interrupted != 0; },
  };

  const qvlm::QuantizeReport report =
      qvlm::quantize(model, out, recipe, options, [&](const qvlm::Progress& progress) {
        show(progress);
        // Smoothing and rounding have nothing to resume, so they end at once: an exception from
        // this callback comes out of quantize(), which leaves no half-written model.
        if (interrupted != 0 && !resumable) throw Cancelled{};
      });
  if (report.stopped) {
    std::cerr << "stopped; what is finished is kept in " << out.string()
              << ".search.json: give the same command again to go on\n";
    return 75;
  }
  double worst = 0.0;
  for (const qvlm::LinearReport& linear : report.linears)
    worst = std::max(worst, linear.relative_error);
  std::cout << report.linears.size() << " linears, " << report.source_bytes << " bytes became "
            << report.result_bytes << ", worst relative error of a weight " << worst << "\n";
  return 0;
}

int exit_code(qvlm::ErrorKind kind) {
  switch (kind) {
    case qvlm::ErrorKind::kInvalidArgument:  // the recipe does not fit, `out` exists, no data
      return 2;
    case qvlm::ErrorKind::kNotFound:
    case qvlm::ErrorKind::kCorrupt:
    case qvlm::ErrorKind::kIo:
      return 3;
    default:
      return 1;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4 || argc > 5) {
    std::cerr << "usage: quantize_in_app MODEL OUT RECIPE [DATA]\n"
                 "  MODEL   folder of a float checkpoint\n"
                 "  OUT     folder to write, must not exist\n"
                 "  RECIPE  YAML file, see share/qvlm/recipes\n"
                 "  DATA    folder of calibration data, for recipes that search\n";
    return 2;
  }
  std::signal(SIGINT, on_interrupt);
  try {
    return run(argv[1], argv[2], argv[3], argc == 5 ? argv[4] : "");
  } catch (const Cancelled&) {
    std::cerr << "cancelled; nothing was written\n";
    return 130;
  } catch (const qvlm::Error& error) {
    std::cerr << "quantize_in_app: " << error.what() << "\n";
    return exit_code(error.kind());
  } catch (const std::exception& error) {
    std::cerr << "quantize_in_app: " << error.what() << "\n";
    return 1;
  }
}
