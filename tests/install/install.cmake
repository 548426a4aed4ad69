# Installs BUILD into SCRATCH/prefix by way of another folder, as a package that is unpacked elsewhere.
file(REMOVE_RECURSE ${SCRATCH}/first_prefix ${SCRATCH}/prefix)
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${SCRATCH}/first_prefix OUTPUT_QUIET RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "cmake --install ${BUILD}: ${failed}")
endif()
file(RENAME ${SCRATCH}/first_prefix ${SCRATCH}/prefix)
