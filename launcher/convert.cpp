#include "framework/metrics/terminal.hpp"
#include "framework/models/hybrid_model.hpp"
#include "launcher/convert_source.hpp"
#include "launcher/removed_when_stopped.hpp"
#include "launcher/verbs.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <filesystem>
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

/// All of the folder, or nothing: it is written beside its place under another name, which it then gets.
expected<void> write_folder(const convert_source& model, const fs::path& destination, dtype type) {
  const fs::path parent = destination.has_parent_path() ? destination.parent_path() : fs::path(".");
  auto disk = open_disk(parent.string());
  if (!disk) return disk.failure();
  const std::string name = destination.filename().string(), partial = fmt::format("{}.partial-{}", name, ::getpid());
  removed_when_stopped guard(parent / partial, **disk);
  storage& writer = guard.writer();
  const auto write = [&]() -> expected<void> {
    if (auto ok = export_hugging_face(writer, partial, model.config, model.weights->span(), model.facts, type); !ok) return ok;
    for (const auto& [file, text] : model.files)
      if (auto ok = writer.write_synced(partial + "/" + file, std::as_bytes(std::span(text))); !ok) return ok;
    if (auto ok = writer.sync_folder(partial); !ok) return ok;
    if (auto ok = check_is_new(destination); !ok) return ok;
    if (auto ok = writer.rename(partial, name); !ok) return ok;
    return writer.sync_folder(".");
  };
  const auto written = write();
  if (!written) static_cast<void>(writer.remove(partial));
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
