#pragma once

#include "framework/metrics/chart.hpp"
#include "framework/metrics/run_store.hpp"
#include "launcher/console.hpp"
#include "launcher/run_folder.hpp"

namespace isthmus::launcher {

/// Loss over the tokens of the whole run: training per site, held-out per domain, faults as marks.
expected<chart> loss_chart(const run_store_reader& store, const recipe& plan);

/// The end card: how it went, held-out loss beside unigram entropy, the loss curve (loss.svg, too), generated text, the ledger's
/// verdict, and what to do next. Gives `code`, or 8 when the ledger is not balanced.
int show_end_card(const run_folder& run, int code, const std::string& reason, console& out);

}  // namespace isthmus::launcher
