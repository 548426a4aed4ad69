#include "actors/spawn.hpp"

#include <caf/sec.hpp>

#include <exception>

namespace isthmus::actors {

void end_with_reason(caf::scheduled_actor* self) {
  self->set_exception_handler([](std::exception_ptr& failure) -> caf::error {
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& e) { return caf::make_error(caf::sec::runtime_error, std::string(e.what())); } catch (...) {
      return caf::make_error(caf::sec::runtime_error, std::string("an unknown exception"));
    }
  });
}

}  // namespace isthmus::actors
