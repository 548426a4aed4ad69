#include "framework/metrics/terminal.hpp"
#include "framework/models/hybrid_model.hpp"
#include "launcher/convert_source.hpp"
#include "launcher/verbs.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <csignal>
#include <filesystem>
#include <thread>
#include <unistd.h>
#include <utility>

namespace isthmus::launcher {

namespace {

namespace fs = std::filesystem;

/// Whether anything has that name, a link that leads nowhere too.
bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::symlink_status(path, ignored).type() != fs::file_type::not_found;
}

expected<void> check_is_new(const fs::path& path) {
  if (!is_there(path)) return {};
  return fail(errc::usage, fmt::format("{} is there already; nothing was written: convert makes a new folder", path.string()));
}

/// While it lives, SIGINT, SIGTERM and SIGHUP remove a folder before they end this process, as they would have without it.
class removed_when_stopped {
public:
  explicit removed_when_stopped(fs::path folder) : folder_(std::move(folder)) {
    sigaddset(&signals_, wake);
    for (const int s : {SIGINT, SIGTERM, SIGHUP})
      if (struct sigaction now{}; ::sigaction(s, nullptr, &now) == 0 && now.sa_handler == SIG_DFL) sigaddset(&signals_, s);
    ::pthread_sigmask(SIG_BLOCK, &signals_, &before_);
    watcher_ = std::thread([this] { watch(); });
  }
  removed_when_stopped(const removed_when_stopped&) = delete;
  removed_when_stopped& operator=(const removed_when_stopped&) = delete;
  ~removed_when_stopped() {
    ::pthread_kill(watcher_.native_handle(), wake);
    watcher_.join();
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

private:
  static constexpr int wake = SIGUSR2;

  void watch() const {
    int heard = 0;
    while (::sigwait(&signals_, &heard) != 0) {}
    if (heard == wake) return;
    std::error_code error;
    for (int tries = 0; tries < 1000 && (fs::remove_all(folder_, error), error); ++tries) {}  // files are still being made in it
    std::signal(heard, SIG_DFL);
    sigset_t only{};
    sigaddset(&only, heard);
    ::pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
    std::raise(heard);
  }

  fs::path folder_;
  sigset_t signals_{}, before_{};
  std::thread watcher_;
};

/// All of the folder, or nothing: it is written beside its place under another name, which it then gets.
expected<void> write_folder(const convert_source& model, const fs::path& destination, dtype type) {
  const fs::path parent = destination.has_parent_path() ? destination.parent_path() : fs::path(".");
  auto disk = open_disk(parent.string());
  if (!disk) return disk.failure();
  const std::string name = destination.filename().string(), partial = fmt::format("{}.partial-{}", name, ::getpid());
  const removed_when_stopped guard(parent / partial);
  const auto write = [&]() -> expected<void> {
    if (auto ok = export_hugging_face(**disk, partial, model.config, model.weights->span(), model.facts, type); !ok) return ok;
    for (const auto& [file, text] : model.files)
      if (auto ok = (*disk)->write_synced(partial + "/" + file, std::as_bytes(std::span(text))); !ok) return ok;
    if (auto ok = (*disk)->sync_folder(partial); !ok) return ok;
    if (auto ok = check_is_new(destination); !ok) return ok;
    if (auto ok = (*disk)->rename(partial, name); !ok) return ok;
    return (*disk)->sync_folder(".");
  };
  const auto written = write();
  if (!written) static_cast<void>((*disk)->remove(partial));
  return written;
}

/// What the folder lacks of the model, and which versions of Transformers read it otherwise.
std::vector<std::string> notes_on(const convert_source& model, const nlohmann::json& config) {
  std::vector<std::string> out;
  if (model.config.medusa_heads > 0)
    out.push_back(
        fmt::format("the {} Medusa heads of {} stay behind: no class of Transformers has them", model.config.medusa_heads, model.from));
  const std::int64_t groups = config.value("n_groups", config.value("mamba_n_groups", 1));
  if (groups > 1 && config.at("model_type") != "nemotron_h")
    out.push_back(
        fmt::format("{} with {} groups wants Transformers 5.23 or newer: up to 5.22 it norms all channels at once and gives other logits",
                    config.at("architectures").at(0).get<std::string>(), groups));
  return out;
}

}  // namespace

int run_convert(const convert_options& options, console& out) {
  fs::path destination(options.destination);
  if (!destination.has_filename()) destination = destination.parent_path();  // "folder/"
  if (!destination.has_filename()) return out.error(exit_usage, fmt::format("{} names no new folder", options.destination));
  if (auto ok = check_is_new(destination); !ok) return out.error(ok.error());
  const auto model = read_convert_source(options.source);
  if (!model) return out.error(model.error());
  for (const auto& warning : model->warnings) out.warn(fmt::format("{}; the model is from {}", printable(warning), model->from));
  const dtype type = options.type == "bf16" ? dtype::bf16 : options.type == "f16" ? dtype::f16 : dtype::f32;
  const auto text = config_json_of(model->config, model->facts, type);
  if (!text) return out.error(text.error());
  const auto config = nlohmann::json::parse(*text);
  const auto architecture = config.at("architectures").at(0).get<std::string>();
  const auto notes = notes_on(*model, config);
  for (const auto& note : notes) out.warn(printable(note));
  if (auto ok = write_folder(*model, destination, type); !ok) return out.error(ok.error());
  model_config written = model->config;
  written.medusa_heads = 0;  // they stay behind
  const std::int64_t parameters = hybrid_layout(written).parameter_count();
  if (options.json)
    out.answer(nlohmann::json{{"schema", 1},
                              {"from", model->from},
                              {"folder", destination.string()},
                              {"architecture", architecture},
                              {"parameters", parameters},
                              {"dtype", options.type},
                              {"warnings", model->warnings},
                              {"notes", notes}}
                   .dump(2, ' ', false, nlohmann::json::error_handler_t::replace) +
               "\n");
  else
    out.answer(fmt::format("{}: {}, {} parameters in {}, from {}\n", destination.string(), architecture,
                           show_count(static_cast<double>(parameters)), options.type, model->from));
  return exit_ok;
}

}  // namespace isthmus::launcher
