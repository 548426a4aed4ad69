# Configures and builds kernels and framework alone, as on a bare machine: CAF, UCX, Boost and the actors are out of reach, and every
# object of the framework is linked, so that a hidden reference to one of them is an error. With ccache the objects of the surrounding
# build are found again and this takes seconds.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "bare build failed: ${ARGN}\n${output}")
  endif()
endfunction()

run(${CMAKE_COMMAND} -S ${SOURCE} -B ${BINARY} -G ${GENERATOR} -DCMAKE_BUILD_TYPE=${TYPE} -DCMAKE_CXX_COMPILER=${COMPILER}
    -DISTHMUS_WERROR=${WERROR} -DISTHMUS_ACTORS=OFF -DISTHMUS_UCX=OFF -DISTHMUS_BENCH=OFF -DBUILD_TESTING=OFF
    -DISTHMUS_BARE_CHECK=ON -DCMAKE_DISABLE_FIND_PACKAGE_CAF=ON -DCMAKE_DISABLE_FIND_PACKAGE_ucx=ON)
run(${CMAKE_COMMAND} --build ${BINARY})
run(${BINARY}/bare_check)
message(STATUS "kernels and framework build and link without CAF and UCX")
